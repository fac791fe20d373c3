"""From a sample to the pixels of its line."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from training.samples import LineSample

GreyLine = npt.NDArray[np.uint8]
#: The widest picture that OpenCV bends.
MAX_WIDTH_PX = 32_766
_PAPER = 255


def load_line(sample: LineSample, *, max_height_px: int) -> GreyLine:
    """Load a line, cut out of its page where it has an outline; what lies outside the outline becomes white.

    Args:
        sample: The line.
        max_height_px: Higher lines are scaled down to this, so that thousands of them fit into memory.

    Returns:
        uint8 grey of shape (H, W), H <= `max_height_px`.
    """
    page = _page(sample.image)
    line = _cut(page, sample.polygon) if sample.polygon else page
    scale = min(max_height_px / line.shape[0], MAX_WIDTH_PX / line.shape[1])
    return scaled(line, scale) if scale < 1 else line


def scaled(line: GreyLine, scale: float) -> GreyLine:
    """Scale a line, uint8 grey of shape (H, W), to at least one pixel each way."""
    size = (max(1, round(line.shape[1] * scale)), max(1, round(line.shape[0] * scale)))
    return np.asarray(cv2.resize(line, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def paper_of(line: GreyLine) -> int:
    """Estimate the grey of a line's paper."""
    return int(np.percentile(line[:, :: max(1, line.shape[1] // 64)], 80))


def on_paper(line: GreyLine, paper: int, *, was: int) -> GreyLine:
    """Bring a line to paper of another grey, and its ink with it."""
    return np.asarray(np.clip(line * (paper / max(1, was)), 0, 255), dtype=np.uint8)


@lru_cache(maxsize=1)
def _page(image: Path) -> GreyLine:
    """Open an image; the last one stays open, since the lines of a page follow each other."""
    with Image.open(image) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert("L"), dtype=np.uint8)


def _cut(page: GreyLine, polygon: tuple[tuple[int, int], ...]) -> GreyLine:
    outline = np.asarray(polygon, dtype=np.int32)
    height, width = page.shape
    x0, y0 = np.clip(outline.min(axis=0), 0, (width - 1, height - 1))
    x1, y1 = np.clip(outline.max(axis=0) + 1, (x0 + 1, y0 + 1), (width, height))
    inside = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillPoly(inside, [outline - (x0, y0)], 1)
    return np.where(inside == 1, page[y0:y1, x0:x1], _PAPER).astype(np.uint8)
