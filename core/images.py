"""What an image file is, judged from its header alone: type, frames and size, before any pixel is decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import pillow_heif

# Image.open would import the plugins it misses at the first call, which two threads must not do at once.
from PIL import AvifImagePlugin, ExifTags, Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from core.errors import ImageTooLarge, InvalidImage, UnsupportedImage

# The pixel limit is this module's: Pillow's own would warn below it and raise above it.
Image.MAX_IMAGE_PIXELS = None
# Pillow grumbles at odd but readable metadata; nobody can act on that. Set once, because filters belong to the process.
warnings.filterwarnings("ignore", module=r"PIL\.")
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

#: Reads that Pillow may take to understand a header; a 20 MB file can hold millions of empty segments, which would
#: keep a thread busy for 10 s. A phone's JPEG takes 100, a TIFF of 1,000 pages some 30,000.
_MAX_HEADER_READS = 50_000
#: Pages counted before giving up.
_MAX_COUNTED_PAGES = 1000
#: NewSubfileType of TIFF 6.0, page 36: bit 0 is a smaller copy of another image, bit 2 a transparency mask.
_NEW_SUBFILE_TYPE = 254
_NOT_A_PAGE = 0b101
#: EXIF orientations that turn by a quarter: rows become columns.
_QUARTER_TURNS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What the header of an image file says."""

    #: As in HTTP's `Content-Type`, from the bytes and not from what the sender called them.
    content_type: str
    #: Of the upright image, after the EXIF rotation, in pixels.
    width: int
    height: int
    #: Usual ending of such files, without the dot.
    extension: str


@dataclass(frozen=True, kw_only=True)
class _Format:
    #: Pillow's name.
    name: str
    content_type: str
    extension: str


_PNG = _Format(name="PNG", content_type="image/png", extension="png")
_JPEG = _Format(name="JPEG", content_type="image/jpeg", extension="jpg")
_GIF = _Format(name="GIF", content_type="image/gif", extension="gif")
_TIFF = _Format(name="TIFF", content_type="image/tiff", extension="tiff")
_BMP = _Format(name="BMP", content_type="image/bmp", extension="bmp")
_WEBP = _Format(name="WEBP", content_type="image/webp", extension="webp")
_HEIC = _Format(name="HEIF", content_type="image/heic", extension="heic")
_AVIF = _Format(name="AVIF", content_type="image/avif", extension="avif")

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"BM", _BMP),
)
#: Brands of ISO/IEC 23008-12 (HEIF); `mif1` and `msf1` are containers of either kind.
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def inspect_image(data: bytes, *, max_bytes: int, max_pixels: int) -> ImageHeader:
    """Judge an image file by its type, frames and size without decoding it; any thread may call this.

    Args:
        data: The whole file.
        max_bytes: Largest file that is taken.
        max_pixels: Most pixels, width x height.

    Returns:
        Type and upright size; of an MPO, HEIC or animated file those of the primary or first picture.

    Raises:
        UnsupportedImage: Not an image, of a type that is not read, or a TIFF of several pages.
        ImageTooLarge: Over the limit of bytes or pixels.
        InvalidImage: Empty, or the header is damaged.
    """
    if not data:
        raise InvalidImage("the image file is empty")
    if len(data) > max_bytes:
        raise ImageTooLarge(f"the image file has {len(data):,} bytes; at most {max_bytes:,} are taken")
    kind = _sniff(data)
    with open_image(data) as image:
        width, height = image.size
        if orientation(image) in _QUARTER_TURNS:
            width, height = height, width
        if min(width, height) < 1:
            raise InvalidImage(f"the image has no pixels: its header says {width} x {height}")
        if width * height > max_pixels:
            raise ImageTooLarge(f"the image has {width:,} x {height:,} pixels; at most {max_pixels:,} are taken")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _refuse_pages(image)
    return ImageHeader(content_type=kind.content_type, width=width, height=height, extension=kind.extension)


def open_image(data: bytes) -> Image.Image:
    """Open an image file lazily as one of the accepted types, whatever its size; no pixel is decoded yet.

    Raises:
        UnsupportedImage: Not an image, or of a type that is not read.
        InvalidImage: The header is damaged.
    """
    kind = _sniff(data)
    try:
        return Image.open(_HeaderReader(data), formats=(kind.name,))
    except Exception as exc:  # whatever a plugin makes of hostile bytes: OSError, ValueError, OverflowError, ...
        raise InvalidImage(f"the image is damaged: its {kind.extension.upper()} header cannot be read") from exc


def orientation(image: Image.Image) -> int:
    """How an opened image lies, as EXIF orientation 1 (upright) to 8.

    Read from what stands before the pixels: `Image.getexif` would decode a whole PNG to look behind them. Pillow turns
    TIFF itself, and libheif HEIC; they are 1 here.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata, in as many ways as above, must not cost anybody a readable picture
        return 1
    return value if value in range(1, 9) else 1


class _HeaderReader(io.BytesIO):
    """A file in memory that ends a header that never ends."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_HEADER_READS:
            raise RuntimeError("the header has too many parts")
        return super().read(size)


def _sniff(data: bytes) -> _Format:
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _WEBP
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(data[3] + 256 * data[2], 256), 4))}
        if brands & _AVIF_BRANDS:
            return _AVIF
        if brands & _HEIC_BRANDS:
            return _HEIC
    raise UnsupportedImage(_refusal(data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()))


def _refusal(start: bytes) -> str:
    accepted = "send PNG, JPEG, WebP, TIFF, BMP, GIF, HEIC or AVIF"
    if start.startswith(b"%pdf-"):
        return f"PDF files are not read; {accepted}"
    if b"<svg" in start:
        return f"SVG drawings are not read; {accepted}"
    if start.startswith((b"<!doctype html", b"<html")):
        return f"this is a web page, not an image; {accepted}"
    return f"the bytes are not an image of a supported type; {accepted}"


def _refuse_pages(image: TiffImagePlugin.TiffImageFile) -> None:
    """Raise when a TIFF holds more than one page; smaller copies and masks of its one page are none."""
    pages, frame = 1, 1
    try:
        while pages < _MAX_COUNTED_PAGES:
            image.seek(frame)
            frame += 1
            pages += not image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _NOT_A_PAGE
    except EOFError:
        pass
    except Exception as exc:
        raise InvalidImage("the image is damaged: its TIFF directories cannot be read") from exc
    if pages > 1:
        count = f"{pages} pages" if pages < _MAX_COUNTED_PAGES else f"{_MAX_COUNTED_PAGES} pages or more"
        raise UnsupportedImage(f"the TIFF has {count}; send each page as an image of its own")
