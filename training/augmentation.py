"""How a line is varied each time it is learnt from."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

GreyLine = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class AugmentationStrength:
    """How far lines are varied; 0 leaves them as they are, 1 is strong."""

    #: Slant, stretch, shift, turn.
    geometry: float
    #: Stroke width, blur, contrast, paper, noise.
    ink: float


def vary_line(
    line: GreyLine, rng: np.random.Generator, strength: AugmentationStrength, *, height_px: int, max_width_px: int
) -> GreyLine:
    """Scale a line to `height_px` and vary it.

    Args:
        line: uint8 grey of shape (H, W), dark on light.
        rng: Where chance comes from.
        strength: How far to go.
        height_px: Height of the result.
        max_width_px: Width above which the result is scaled down further, so that it is lower than `height_px`.

    Returns:
        uint8 grey of shape (h, w), h <= `height_px`, w <= `max_width_px`.
    """
    return _vary_ink(_vary_geometry(line, rng, strength.geometry, height_px, max_width_px), rng, strength.ink)


def _vary_geometry(
    line: GreyLine, rng: np.random.Generator, amount: float, height_px: int, max_width_px: int
) -> GreyLine:
    height, width = line.shape
    scale = height_px / height
    stretch = float(np.exp(rng.uniform(-0.25, 0.2) * amount))
    zoom = float(np.exp(rng.uniform(-0.22, 0.08) * amount))
    slant = rng.normal(0.0, 0.18) * amount
    turn = rng.normal(0.0, 0.006) * amount
    out_width = max(8, round(width * scale * stretch * zoom + abs(slant) * height_px * 0.6))
    fit = min(1.0, max_width_px / out_width)
    out_width = min(out_width, max_width_px)
    out_height = max(8, round(height_px * fit))
    x_scale, y_scale = scale * stretch * zoom * fit, scale * zoom * fit
    matrix = np.array(
        [
            [x_scale, -slant * y_scale, 0.0],
            [turn * x_scale, y_scale, 0.0],
        ]
    )
    middle = matrix @ np.array([width / 2, height / 2, 1.0])
    shift_px = rng.uniform(-0.08, 0.08) * amount * out_height
    matrix[:, 2] += np.array([out_width / 2, out_height / 2 + shift_px]) - middle
    paper = int(np.percentile(line[:, :: max(1, width // 64)], 80))
    return np.asarray(
        cv2.warpAffine(
            line,
            matrix,
            (out_width, out_height),
            flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
            borderValue=paper,
        ),
        dtype=np.uint8,
    )


def _vary_ink(line: GreyLine, rng: np.random.Generator, amount: float) -> GreyLine:
    chance = rng.random(6)
    if chance[0] < 0.25 * amount:
        line = np.asarray(cv2.erode(line, np.ones((2, 2), np.uint8)), dtype=np.uint8)
    elif chance[0] > 1 - 0.2 * amount:
        line = np.asarray(cv2.dilate(line, np.ones((2, 2), np.uint8)), dtype=np.uint8)
    if chance[1] < 0.3 * amount:
        line = np.asarray(cv2.GaussianBlur(line, (3, 3), float(rng.uniform(0.4, 1.1))), dtype=np.uint8)
    if chance[2] < 0.8 * amount:
        line = _vary_paper(line, rng, amount)
    if chance[3] < 0.3 * amount:
        noise = rng.normal(0.0, rng.uniform(2.0, 14.0), line.shape).astype(np.float32)
        line = np.clip(line + noise, 0, 255).astype(np.uint8)
    if chance[4] < 0.12 * amount:
        y = int(rng.integers(line.shape[0] // 2, line.shape[0]))
        line = np.array(line)
        cv2.line(line, (0, y), (line.shape[1], y + int(rng.integers(-2, 3))), int(rng.integers(60, 200)), 1)
    return line


def _vary_paper(line: GreyLine, rng: np.random.Generator, amount: float) -> GreyLine:
    """Map ink and paper to other greys, with another gamma, so that faint ink and dark paper are known."""
    paper = 255.0 - rng.uniform(0, 90) * amount
    ink = rng.uniform(0, 110) * amount
    levels = (np.arange(256) / 255.0) ** float(np.exp(rng.uniform(-0.5, 0.5) * amount))
    return np.asarray(cv2.LUT(line, (ink + levels * (paper - ink)).astype(np.uint8)), dtype=np.uint8)
