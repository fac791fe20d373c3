"""What stands around a line that was cut out roughly: margins, and parts of the lines above and below."""

import cv2
import numpy as np

from training.line_images import GreyLine, on_paper, paper_of

#: Widest margins above and below, and left and right, in heights of the line.
_MOST_ABOVE, _MOST_BESIDE = 0.22, 0.8
#: How much of a neighbouring line is seen at most, in heights of the line, and how often it is seen at all.
_MOST_SEEN, _SEEN_SHARE = 0.3, 0.7


def with_surroundings(line: GreyLine, above: GreyLine, below: GreyLine, rng: np.random.Generator) -> GreyLine:
    """Put a line among margins, of its own paper, and parts of other lines.

    Args:
        line: uint8 grey of shape (H, W).
        above: The line above, of any height and width.
        below: The line below.
        rng: Where chance comes from.

    Returns:
        uint8 grey of shape (h, w), h >= H, w >= W.
    """
    height, width = line.shape
    top, bottom = (int(height * share) for share in rng.uniform(0, _MOST_ABOVE, 2))
    left, right = (int(height * share) for share in rng.uniform(0, _MOST_BESIDE, 2))
    paper = paper_of(line)
    around = np.full((top + height + bottom, left + width + right), paper, dtype=np.uint8)
    around[top : top + height, left : left + width] = line
    # Upside down, the head of the line below is the foot of one above.
    for turned, neighbour in ((around, above), (around[::-1], below[::-1])):
        if rng.random() < _SEEN_SHARE:
            rows = _rows(neighbour, height, around.shape[1], paper, rng)
            seen = max(1, int(height * rng.uniform(0, _MOST_SEEN)))
            turned[:seen] = np.minimum(turned[:seen], rows[height - seen :])
    return around


def _rows(line: GreyLine, height: int, width: int, paper: int, rng: np.random.Generator) -> GreyLine:
    """Bring a line to a height, a width and a paper, from a place left to chance on, repeated where it is too short."""
    width_px = max(1, round(line.shape[1] * height / line.shape[0]))
    scaled = np.asarray(cv2.resize(line, (width_px, height)), dtype=np.uint8)
    columns = (int(rng.integers(scaled.shape[1])) + np.arange(width)) % scaled.shape[1]
    return on_paper(scaled[:, columns], paper, was=paper_of(line))
