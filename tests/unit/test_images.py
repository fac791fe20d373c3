from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from core.images import ImageHeader, inspect_image
from tests import image_samples as samples

# Pillow's remarks on damaged metadata are silenced in the service; here pytest makes every warning an error again.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

LINE = samples.ink_line()
FILES = {fmt: samples.encoded(LINE, fmt) for fmt in samples.FORMATS}


def judged(data: bytes, *, max_bytes: int = 2**20, max_pixels: int = 10**6) -> ImageHeader:
    return inspect_image(data, max_bytes=max_bytes, max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("fmt", "content_type", "extension"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("TIFF", "image/tiff", "tiff"),
        ("BMP", "image/bmp", "bmp"),
        ("GIF", "image/gif", "gif"),
        ("HEIF", "image/heic", "heic"),
        ("AVIF", "image/avif", "avif"),
    ],
)
def test_every_accepted_type_is_known_by_its_bytes(fmt: str, content_type: str, extension: str) -> None:
    assert judged(FILES[fmt]) == ImageHeader(content_type=content_type, width=320, height=48, extension=extension)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_the_size_is_that_of_the_upright_image(fmt: str, orientation: int) -> None:
    header = judged(samples.exif_rotated(LINE, orientation, fmt))
    assert (header.width, header.height) == (320, 48)


def test_damaged_exif_costs_nobody_a_readable_picture() -> None:
    data = samples.encoded(LINE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert judged(data).width == 320


def test_a_phones_mpo_counts_as_its_primary_picture() -> None:
    header = judged(samples.phone_mpo(LINE))
    assert (header.content_type, header.width, header.height) == ("image/jpeg", 320, 48)


def test_of_an_animated_gif_the_first_frame_counts() -> None:
    assert judged(samples.multi_page([LINE, LINE.rotate(180)], "GIF")).content_type == "image/gif"


def test_a_tiff_of_three_pages_is_refused_and_says_so() -> None:
    with pytest.raises(UnsupportedImage, match="3 pages"):
        judged(samples.multi_page([LINE] * 3))


def test_a_preview_beside_the_page_of_a_tiff_is_not_a_second_page() -> None:
    assert judged(samples.tiff_with_preview(LINE)).width == 320


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (samples.svg(), "SVG"),
        (samples.pdf(), "PDF"),
        (samples.html(), "web page"),
        (b"Dear Sir, please find enclosed", "not an image"),
        (b"\0" * 100, "not an image"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(data: bytes, word: str) -> None:
    with pytest.raises(UnsupportedImage, match=word):
        judged(data)


def test_an_empty_file_is_an_invalid_image() -> None:
    with pytest.raises(InvalidImage, match="empty"):
        judged(b"")


def test_a_file_of_just_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    data = FILES["PNG"]
    assert judged(data, max_bytes=len(data))
    with pytest.raises(ImageTooLarge, match="bytes"):
        judged(data, max_bytes=len(data) - 1)


def test_an_image_of_just_the_limit_of_pixels_is_taken_and_one_less_is_not() -> None:
    assert judged(FILES["PNG"], max_pixels=320 * 48)
    with pytest.raises(ImageTooLarge, match="320 x 48 pixels"):
        judged(FILES["PNG"], max_pixels=320 * 48 - 1)


@pytest.mark.parametrize(
    "data",
    [
        samples.png_header(50_000, 50_000),
        samples.png_bomb(2_000, 2_000),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    ],
    ids=["png", "bomb", "bmp", "gif"],
)
def test_a_header_that_promises_too_much_is_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(ImageTooLarge, match="pixels"):
        judged(data)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "AVIF", "WEBP"])
def test_a_small_file_of_any_format_that_promises_169_megapixels_is_refused(fmt: str) -> None:
    with pytest.raises(ImageTooLarge, match="13,001 x 13,003"):
        judged(samples.huge(fmt), max_pixels=60_000_000)


@pytest.mark.parametrize("size", [(0, 10), (10, 0)])
def test_an_image_without_pixels_is_invalid(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImage):
        judged(samples.png_header(*size))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe5\0\2" * 200_000,
        samples.png_header(9, 9)[:33] + (b"\0\0\0\0abCd" + struct.pack(">I", zlib.crc32(b"abCd"))) * 200_000,
        b"GIF89a\x0a\0\x0a\0\0\0\0" + b"\x21\xff" + b"\x01a" * 200_000,
    ],
    ids=["jpeg", "png", "gif"],
)
def test_a_header_that_never_ends_is_given_up(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="header"):
        judged(data, max_bytes=2**22)


def test_many_threads_may_judge_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        headers = list(threads.map(judged, list(FILES.values()) * 20))
    assert {(header.width, header.height) for header in headers} == {(320, 48)}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_verdict(data: bytes) -> None:
    assert_judged_or_refused(data)


@given(st.sampled_from(samples.FORMATS), st.floats(0, 1))
def test_no_truncation_raises_anything_but_a_verdict(fmt: str, share: float) -> None:
    assert_judged_or_refused(samples.truncated(FILES[fmt], share))


@given(st.sampled_from(samples.FORMATS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8))
def test_no_mutation_raises_anything_but_a_verdict(fmt: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILES[fmt])
    for position, value in changes:
        data[position % len(data)] = value
    assert_judged_or_refused(bytes(data))


def assert_judged_or_refused(data: bytes) -> None:
    try:
        header = judged(data)
    except (ImageTooLarge, InvalidImage, UnsupportedImage) as refusal:
        assert refusal.message
    else:
        assert 0 < header.width * header.height <= 10**6
