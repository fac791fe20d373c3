"""What a checkpoint's processor does to a line, and the same in batches for training.

Training works on grey lines, three equal channels. A line that was varied is brought to the encoder's size as the
processor would: squashed to it (DeiT and ViT processors), or scaled and padded around its centre (Donut's).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from transformers import TrOCRProcessor

GreyLine = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LineFormat:
    """The encoder's picture of a line."""

    height_px: int
    width_px: int
    #: True: the aspect ratio is kept and the rest is black; False: the line is squashed to the size.
    keeps_aspect: bool
    #: Per-channel mean and deviation in [0, 1]; the same for all channels.
    mean: float
    std: float

    @classmethod
    def of(cls, processor: TrOCRProcessor) -> "LineFormat":
        """Read the format from a processor's settings."""
        images = processor.image_processor
        size = images.size
        return cls(
            height_px=int(size["height"]),
            width_px=int(size["width"]),
            keeps_aspect=bool(getattr(images, "do_thumbnail", False) and getattr(images, "do_pad", False)),
            mean=float(np.mean(images.image_mean)),
            std=float(np.mean(images.image_std)),
        )


def stored_height_px(line_format: LineFormat) -> int:
    """Give how high real lines are kept at most: half as high again as the encoder sees them, and 144 pixels."""
    return round(min(line_format.height_px, 96) * 1.5)


def padded_width_px(lines: Sequence[GreyLine], line_format: LineFormat, *, column_px: int) -> int:
    """Give the least even number of columns, in pixels, that holds all lines; even for symmetrical padding."""
    step = 2 * column_px
    widest = max(int(line.shape[1]) for line in lines)
    return min(line_format.width_px, math.ceil(widest / step) * step)


def stack_lines(lines: Sequence[GreyLine], line_format: LineFormat, *, width_px: int) -> torch.Tensor:
    """Bring lines to one size.

    Args:
        lines: uint8 grey of shape (h, w); at most (`height_px`, `width_px`) when the aspect ratio is kept.
        line_format: The encoder's format.
        width_px: Width of the result; the format's own, or less for short lines of a keep-aspect format.

    Returns:
        uint8 of shape (B, height_px, width_px).
    """
    height_px = line_format.height_px
    canvas = np.zeros((len(lines), height_px, width_px), dtype=np.uint8)
    for index, line in enumerate(lines):
        if not line_format.keeps_aspect:
            canvas[index] = cv2.resize(line, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
            continue
        height, width = line.shape
        top, left = (height_px - height) // 2, (width_px - width) // 2
        canvas[index, top : top + height, left : left + width] = line
    return torch.from_numpy(canvas)


def normalized(pixels: torch.Tensor, line_format: LineFormat, dtype: torch.dtype) -> torch.Tensor:
    """Scale uint8 grey (B, H, W) to what the encoder takes, one channel."""
    return ((pixels.float() / 255.0 - line_format.mean) / line_format.std).to(dtype)
