"""How a line is varied each time it is learnt from."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.line_images import GreyLine, paper_of

FloatGrid = npt.NDArray[np.float32]

#: Distances of the points between which letters bend and the baseline wanders, and how far at most usual, in heights.
_BEND_HEIGHTS, _WANDER_HEIGHTS = 0.6, 4.0
_BEND_X, _BEND_Y, _WANDER_Y = 0.045, 0.03, 0.03
#: Natural logarithms of how far lines are narrowed and widened: one hand writes a letter twice as wide as another.
_NARROWEST, _WIDEST = -0.3, 0.5
#: Natural logarithms of how far the ink is shrunk or, cutting into tall letters, enlarged.
_SMALLEST, _LARGEST = -0.22, 0.14
#: Most of the width and height of a grain of the paper, in pixels: laid and linen paper show threads.
_MOST_GRAIN_PX = 4
#: How much darker than white paper becomes at most, in grey levels, and the palest ink's share of the paper's grey.
_DARKEST_PAPER, _PALEST_INK = 150.0, 0.5
#: Patches that are covered with paper: how many on average in a line of twenty heights, and their sizes in heights.
_COVERED_PATCHES = 4.0
_COVERED_WIDTHS, _COVERED_HEIGHTS = (0.05, 0.3), (0.2, 1.0)


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
    stretch = float(np.exp(rng.uniform(_NARROWEST, _WIDEST) * amount))
    zoom = float(np.exp(rng.uniform(_SMALLEST, _LARGEST) * amount))
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
    x_px, y_px = _bent(rng, amount, out_height, out_width)
    inverse = cv2.invertAffineTransform(matrix)
    return np.asarray(
        cv2.remap(
            line,
            (inverse[0, 0] * x_px + inverse[0, 1] * y_px + inverse[0, 2]).astype(np.float32),
            (inverse[1, 0] * x_px + inverse[1, 1] * y_px + inverse[1, 2]).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=paper_of(line),
        ),
        dtype=np.uint8,
    )


def _bent(rng: np.random.Generator, amount: float, height: int, width: int) -> tuple[FloatGrid, FloatGrid]:
    """Give where each pixel is taken from, x and y of shape (H, W), when letters bend and the baseline wanders.

    Source:
        Random smooth displacements on a coarse grid, as in Wigington et al., Data Augmentation for Recognition of
        Handwritten Words and Lines using a CNN-LSTM Network, ICDAR 2017.
    """
    x_px, y_px = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    letters = (max(2, round(width / height / _BEND_HEIGHTS)) + 1, 3)
    baseline = (max(2, round(width / height / _WANDER_HEIGHTS)) + 1, 1)
    x_px += _smooth(rng, letters, _BEND_X * amount * height, height, width)
    y_px += _smooth(rng, letters, _BEND_Y * amount * height, height, width)
    y_px += _smooth(rng, baseline, _WANDER_Y * amount * height, height, width)
    return x_px, y_px


def _smooth(rng: np.random.Generator, grid: tuple[int, int], deviation: float, height: int, width: int) -> FloatGrid:
    """Draw a smooth field of shape (H, W) from normal values on a grid of (columns, rows)."""
    columns, rows = grid
    values = rng.normal(0.0, deviation, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


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
    if chance[3] < 0.4 * amount:
        line = _vary_grain(line, rng)
    for _ in range(rng.poisson(_COVERED_PATCHES * amount * line.shape[1] / line.shape[0] / 20)):
        line = _cover_patch(line, rng)
    if chance[4] < 0.12 * amount:
        y = int(rng.integers(line.shape[0] // 2, line.shape[0]))
        line = np.array(line)
        grey = int(rng.uniform(0.25, 0.8) * paper_of(line))
        cv2.line(line, (0, y), (line.shape[1], y + int(rng.integers(-2, 3))), grey, 1)
    return line


def _vary_grain(line: GreyLine, rng: np.random.Generator) -> GreyLine:
    """Add noise whose grains may be longer in one direction, as the threads of paper are."""
    height, width = line.shape
    grain_width, grain_height = rng.integers(1, _MOST_GRAIN_PX + 1, 2)
    rows, columns = -(-height // int(grain_height)), -(-width // int(grain_width))
    deviation = rng.uniform(2.0, 16.0) * paper_of(line) / 255
    noise = rng.normal(0.0, deviation, (rows, columns)).astype(np.float32)
    grain = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(line + grain, 0, 255), dtype=np.uint8)


def _cover_patch(line: GreyLine, rng: np.random.Generator) -> GreyLine:
    """Cover a small patch with paper, so that letters are known by parts and by their neighbours, too."""
    height, width = line.shape
    patch_width = max(1, round(rng.uniform(*_COVERED_WIDTHS) * height))
    patch_height = max(1, round(rng.uniform(*_COVERED_HEIGHTS) * height))
    left, top = int(rng.integers(max(1, width - patch_width))), int(rng.integers(height - patch_height + 1))
    line = np.array(line)
    line[top : top + patch_height, left : left + patch_width] = paper_of(line)
    return line


def _vary_paper(line: GreyLine, rng: np.random.Generator, amount: float) -> GreyLine:
    """Map ink and paper to other greys, with another gamma, so that faint ink and dark paper are known."""
    paper = 255.0 - rng.uniform(0, _DARKEST_PAPER) * amount
    ink = rng.uniform(0, _PALEST_INK) * amount * paper
    levels = (np.arange(256) / 255.0) ** float(np.exp(rng.uniform(-0.5, 0.5) * amount))
    return np.asarray(cv2.LUT(line, (ink + levels * (paper - ink)).astype(np.uint8)), dtype=np.uint8)
