"""Image files of every sort that people send, made from one picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pillow_heif
from PIL import Image, ImageDraw

pillow_heif.register_heif_opener()

#: Pillow's format names of what the service reads.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "HEIF", "AVIF")

#: EXIF orientation -> the turn a camera held that way did to the upright scene.
_CAMERA_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def ink_line(width: int = 320, height: int = 48) -> Image.Image:
    """A white RGB strip with dark strokes in its left half only, so that no turn of it looks like another."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for x in range(height // 4, width // 2, height // 3):
        draw.line((x, height // 4, x + height // 6, height * 3 // 4), fill=(20, 20, 60), width=max(2, height // 16))
    draw.rectangle((width // 16, height // 8, width // 8, height // 4), fill=(150, 0, 0))
    return image


def encoded(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    """The file of an image as Pillow writes it; `options` are those of `Image.save`."""
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def exif_rotated(image: Image.Image, orientation: int, fmt: str = "JPEG") -> bytes:
    """What a camera held at this EXIF orientation (1 to 8) writes of an upright scene."""
    turn = _CAMERA_TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image if turn is None else image.transpose(turn)
    return encoded(stored, fmt, exif=exif.tobytes())


def with_alpha(image: Image.Image, fmt: str = "PNG") -> bytes:
    """Only the ink is opaque; what is see-through is stored black, as drawing programs do."""
    ink = image.convert("L").point(lambda value: 255 - value)
    return encoded(Image.merge("RGBA", (*(band.point(lambda _: 0) for band in image.split()), ink)), fmt)


def grey_with_alpha(image: Image.Image) -> bytes:
    """PNG of mode LA: black paper that only the alpha channel tells from the ink."""
    ink = image.convert("L").point(lambda value: 255 - value)
    return encoded(Image.merge("LA", (Image.new("L", image.size, 0), ink)))


def palette(image: Image.Image, fmt: str = "PNG", *, transparent: bool = False) -> bytes:
    """Mode P; with `transparent`, its commonest colour (the paper) is see-through."""
    reduced = image.quantize(16)
    paper = int(np.argmax(reduced.histogram()))
    return encoded(reduced, fmt, **({"transparency": paper} if transparent else {}))


def one_bit(image: Image.Image, fmt: str = "PNG") -> bytes:
    """Mode 1, as fax machines and scanners write."""
    return encoded(image.convert("1"), fmt)


def grey(image: Image.Image, fmt: str = "PNG") -> bytes:
    """Mode L."""
    return encoded(image.convert("L"), fmt)


def grey_16_bit(image: Image.Image, fmt: str = "PNG") -> bytes:
    """Mode I;16 over the whole range 0 to 65,535."""
    levels = np.asarray(image.convert("L"), dtype=np.uint16) * 257
    return encoded(Image.fromarray(levels), fmt)


def grey_float(image: Image.Image) -> bytes:
    """TIFF of mode F between 0 and 1, as image-processing programs write."""
    return encoded(Image.fromarray(np.asarray(image.convert("L"), dtype=np.float32) / 255), "TIFF")


def cmyk(image: Image.Image, fmt: str = "JPEG") -> bytes:
    """Mode CMYK, as printing houses write."""
    return encoded(image.convert("CMYK"), fmt)


def multi_page(images: Sequence[Image.Image], fmt: str = "TIFF") -> bytes:
    """One file of several pages or frames."""
    return encoded(images[0], fmt, save_all=True, append_images=list(images[1:]))


def tiff_with_preview(image: Image.Image) -> bytes:
    """A TIFF of one page with a smaller copy behind it, marked as such, as scanners write."""
    preview = image.reduce(4)
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    return encoded(image, "TIFF", save_all=True, append_images=[preview])


def phone_mpo(image: Image.Image) -> bytes:
    """A JPEG with a second, smaller picture behind it, as phones write."""
    return encoded(image, "MPO", save_all=True, append_images=[image.reduce(2)])


def truncated(data: bytes, share: float = 0.5) -> bytes:
    """The first part of a file, as a broken upload leaves it."""
    return data[: max(1, int(len(data) * share))]


def png_header(width: int, height: int) -> bytes:
    """A few dozen bytes that call themselves a PNG of this size; any size that the format can say."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def png_bomb(width: int = 7_000, height: int = 7_000) -> bytes:
    """A small PNG that decodes into `width` x `height` real pixels."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + 3 * width)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def gif_of_frames(frames: int) -> bytes:
    """A GIF of so many frames, of a few bytes each."""
    frame = b"!\xf9\4\0\1\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


def huge(fmt: str) -> bytes:
    """A small file of this format whose header was changed to promise 169 megapixels."""
    width, height = 13_001, 13_003
    if fmt == "PNG":
        return png_header(width, height)
    data = bytearray(encoded(Image.new("RGB", (61, 67), "white"), fmt, **({"lossless": True} if fmt == "WEBP" else {})))
    if fmt == "TIFF":
        for tag, size in ((256, width), (257, height)):
            at = data.index(struct.pack("<HHI", tag, 4, 1))
            data[at + 8 : at + 12] = struct.pack("<I", size)
        return bytes(data)
    if fmt == "WEBP":  # VP8L: 14 bits of each size less one, behind its first byte
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14 | data[24] >> 4 << 28)
        return bytes(data)
    order = {"JPEG": ">HH", "GIF": "<HH", "BMP": "<II", "AVIF": ">II"}[fmt]
    small, large = ((67, 61), (height, width)) if fmt == "JPEG" else ((61, 67), (width, height))
    assert struct.pack(order, *small) in data
    return bytes(data).replace(struct.pack(order, *small), struct.pack(order, *large))


def with_text_bomb() -> bytes:
    """A PNG whose compressed remark unfolds into 64 MB."""
    remark = b"Comment\0\0" + zlib.compress(bytes(2**26), 9)
    plain = encoded(ink_line())
    return plain[:33] + _chunk(b"zTXt", remark) + plain[33:]


def with_bad_profile(fmt: str = "PNG") -> bytes:
    """An image whose colour profile is nonsense."""
    return encoded(ink_line(), fmt, icc_profile=b"\xff" * 300)


def with_looping_exif() -> bytes:
    """A JPEG whose EXIF directory points to itself."""
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    return encoded(ink_line(), "JPEG", exif=b"Exif\0\0" + loop)


def polyglot(fmt: str, behind: bytes) -> bytes:
    """An image with another file behind it."""
    return encoded(ink_line(), fmt) + behind


def svg() -> bytes:
    """A drawing, not an image of pixels."""
    return b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n'


def pdf() -> bytes:
    """The start of a PDF."""
    return b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"


def html() -> bytes:
    """A web page, such as a login wall sends in place of an image."""
    return b"<!DOCTYPE html><html><title>Sign in</title></html>"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
