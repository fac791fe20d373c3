"""One decoding process: takes image files from a socket, gives back pixels. Meets neither numpy nor a model."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import BinaryIO, cast

import pillow_heif
from PIL import AvifImagePlugin, Image

from core.errors import ImageTooLarge, InkqueueError, InvalidImage, UnsupportedImage
from core.images import open_image, orientation

#: How many images a request holds; before each image, its bytes and the most pixels it may have.
COUNT = struct.Struct("!I")
IMAGE = struct.Struct("!IQ")
#: Answer to one image: place in VERDICTS, then rows and columns of the pixels, or bytes of the message and 0.
ANSWER = struct.Struct("!BII")
#: What an image can come to; None is success.
VERDICTS: tuple[type[InkqueueError] | None, ...] = (None, InvalidImage, UnsupportedImage, ImageTooLarge)
MAX_MESSAGE_BYTES = 4096
#: The first byte from a process that is ready.
READY = b"\x01"

#: A line of so many pixels is finer than any model sees; more of them would only fill the worker's memory.
_KEPT_PIXELS = 6_000_000
_PR_SET_PDEATHSIG = 1
#: glibc's names for how much freed memory stays (malloc.h), and how much does: of the pictures of some lines.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 * 2**20
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def serve(parent_pid: int, memory_bytes: int) -> None:
    """Answer requests on the socket that is standard input, one image after the other, until the parent is gone."""
    _die_with(parent_pid)
    # One process is one core; the pool has as many as it is given.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1
    _keep_freed_memory()
    _limit_memory(memory_bytes)
    # Decoders written in C babble about damaged files; nobody can act on it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with socket.socket(fileno=0) as parent, parent.makefile("rb") as requests:
        parent.sendall(READY)
        while header := requests.read(COUNT.size):
            images = [_request(requests) for _ in range(*COUNT.unpack(header))]
            for data, max_pixels in images:
                _answer(parent, data, max_pixels)


def upright_rgb(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an image file into mode RGB: turned upright, see-through parts on white, 16-bit grey scaled to 8.

    One of more than 6 megapixels is reduced by a whole factor.

    Of an animation the first frame counts. Colour profiles are left alone.

    Raises:
        UnsupportedImage: Not an image of an accepted type.
        ImageTooLarge: More than `max_pixels`, by its header.
        InvalidImage: Damaged.
    """
    image = open_image(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"the image has {width:,} x {height:,} pixels; at most {max_pixels:,} are taken")
    turn = _TURNS.get(orientation(image))
    factor = _reduction(width * height)
    try:
        # JPEG decodes at a half, a quarter or an eighth of its size in a fraction of the time.
        image.draft(None, (width // factor, height // factor))
        image.load()
        rgb = _reduced(_on_white(image))
        return rgb if turn is None else rgb.transpose(turn)
    except MemoryError as exc:
        raise InvalidImage("the image needs more memory to decode than is allowed") from exc
    except Exception as exc:  # whatever a plugin makes of hostile bytes
        reason = " ".join(str(exc).split())[:200].rstrip(".") or "its pixels cannot be decoded"
        raise InvalidImage(f"the image is damaged: {reason}") from exc


def _reduction(pixels: int) -> int:
    return math.ceil(math.sqrt(pixels / _KEPT_PIXELS))


def _reduced(rgb: Image.Image) -> Image.Image:
    factor = _reduction(rgb.width * rgb.height)
    return rgb.reduce(factor) if factor > 1 else rgb


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # `convert` would clip at 255.
        return image.convert("I").point([level // 257 for level in range(65536)], "L").convert("RGB")
    if image.mode in ("I", "F"):
        return _stretched(image).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Mode L of 32-bit levels, whose range no header tells: darkest to black, brightest to white."""
    darkest, brightest = cast("tuple[float, float]", image.getextrema())  # a pair for each band, but there is one
    scale = 255 / ((brightest - darkest) or 1)
    return image.convert("F").point(lambda level: level * scale + (0.5 - darkest * scale)).convert("L")


def _request(requests: BinaryIO) -> tuple[bytes, int]:
    size, max_pixels = IMAGE.unpack(requests.read(IMAGE.size))
    return requests.read(size), max_pixels


def _answer(parent: socket.socket, data: bytes, max_pixels: int) -> None:
    try:
        image = upright_rgb(data, max_pixels)
        body = image.tobytes()
        header = ANSWER.pack(0, image.height, image.width)
    except InkqueueError as exc:
        body = exc.message.encode()[:MAX_MESSAGE_BYTES]
        header = ANSWER.pack(VERDICTS.index(type(exc)), len(body), 0)
    parent.sendall(header)
    parent.sendall(body)


def _die_with(parent_pid: int) -> None:
    """End at once when the parent's thread ends, also in the middle of an image and when the parent was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit


def _keep_freed_memory() -> None:
    """Let the next image have the memory of the last one; to take it anew from the system costs more than to decode.

    A line of 840 x 64 pixels takes 0.28 instead of 0.57 ms of a core so.
    """
    # Other systems' C libraries have no such function, or heed it not.
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _limit_memory(memory_bytes: int) -> None:
    """Let the address space grow by so much, and leave no core files of what an image breaks."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
