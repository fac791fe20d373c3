"""Synthetic text lines: texts drawn in handwriting fonts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from training.fonts import FontFile, has_glyph, load_font
from training.texts import TextSource

_EM_PX = 56
_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class DrawnLine:
    """A synthetic line."""

    #: uint8 grey of shape (height, W), ink dark on white.
    pixels: npt.NDArray[np.uint8]
    #: What is written.
    text: str


class LineSynthesizer:
    """Draws lines; the same generator state gives the same lines."""

    def __init__(self, fonts: Sequence[FontFile], texts: TextSource, *, height_px: int, max_width_px: int) -> None:
        """Keep fonts and texts; lines are `height_px` high and at most `max_width_px` wide."""
        self._fonts = list(fonts)
        self._texts = texts
        self._height_px = height_px
        self._max_width_px = max_width_px

    def draw(self, rng: random.Random, *, max_chars: int) -> DrawnLine:
        """Draw one line of at most `max_chars` characters.

        Raises:
            ValueError: No font could draw any of several texts.
        """
        for _ in range(_ATTEMPTS):
            text = self._texts.draw(rng, max_chars=max_chars)
            font = rng.choice(self._fonts)
            if not all(has_glyph(font.path, character) for character in set(text)):
                continue
            pixels = self._fit(_ink(rng, load_font(font.path, _EM_PX), text), rng)
            if pixels is not None:
                return DrawnLine(pixels=pixels, text=text)
        raise ValueError("the fonts draw none of the texts: do they hold Latin letters?")

    def _fit(self, ink: Image.Image, rng: random.Random) -> npt.NDArray[np.uint8] | None:
        """Crop to the ink with random margins, stretch a little, scale to the height; None when nothing is left."""
        box = ink.getbbox()
        if box is None:
            return None
        height = max(box[3] - box[1], _EM_PX // 2)
        top, bottom = (int(height * rng.uniform(0.02, 0.22)) for _ in range(2))
        left, right = (int(height * rng.uniform(0.0, 0.4)) for _ in range(2))
        canvas = ink.crop((box[0] - left, box[3] - height - top, box[2] + right, box[3] + bottom))
        if rng.random() < 0.2:
            _rule(canvas, rng)
        stretch = rng.uniform(0.65, 1.15)
        width = round(canvas.width * stretch * self._height_px / canvas.height)
        if width > self._max_width_px * 1.15 or width < 4:
            return None
        width = min(width, self._max_width_px)
        scaled = canvas.resize((width, self._height_px), Image.Resampling.BILINEAR)
        return 255 - np.asarray(scaled, dtype=np.uint8)


def _ink(rng: random.Random, font: ImageFont.FreeTypeFont, text: str) -> Image.Image:
    """Draw word by word with an uneven baseline and uneven gaps; white ink on black."""
    words = text.split(" ")
    gap_px = font.getlength(" ") * rng.uniform(0.8, 1.6)
    widths = [font.getlength(word) for word in words]
    canvas = Image.new("L", (int(sum(widths) + gap_px * 1.5 * len(words)) + 4 * _EM_PX, 4 * _EM_PX))
    draw = ImageDraw.Draw(canvas)
    jitter_px = rng.choice((0.0, 1.0, 3.0))
    stroke_px = rng.choice((0, 0, 0, 1, 1, 2))
    x = float(_EM_PX)
    for word, width in zip(words, widths, strict=True):
        y = _EM_PX * 1.2 + rng.uniform(-jitter_px, jitter_px)
        draw.text((x, y), word, fill=255, font=font, stroke_width=stroke_px)
        x += width + gap_px * rng.uniform(0.8, 1.4)
    return canvas


def _rule(canvas: Image.Image, rng: random.Random) -> None:
    y = int(canvas.height * rng.uniform(0.55, 0.95))
    draw = ImageDraw.Draw(canvas)
    slope = rng.randint(-3, 3)
    draw.line((0, y, canvas.width, y + slope), fill=rng.randint(60, 220), width=rng.randint(1, 2))
