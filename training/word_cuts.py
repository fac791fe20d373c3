"""Where the words of a line and their letters stand, after the CTC head of a model that can already read it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from training.alignment import align_columns
from training.cut_lines import CutLine, CutWord, WholeLine
from training.hybrid_reader import HybridReader
from training.labels import Labels
from training.line_images import GreyLine, scaled
from training.line_pixels import LineFormat, padded_width_px, stack_lines

_LINES_AT_ONCE = 16
#: A cut goes through the middle of the emptiest stretch of this width, in heights of the line.
_GAP_HEIGHTS, _STROKE_HEIGHTS = 0.12, 0.05
#: Columns whose darkness differs by less, in grey levels, are as empty as each other.
_SAME_INK = 1e-6


@torch.no_grad()
def cut_lines(
    reader: HybridReader, labels: Labels, lines: Sequence[WholeLine], *, shows_progress: bool = False
) -> list[CutLine]:
    """Cut lines at their spaces, and their words at the letters.

    Args:
        reader: A reader with a CTC head that has learnt.
        labels: Its labels.
        lines: What to cut.
        shows_progress: Whether to show a progress bar.

    Returns:
        The lines that could be cut, in their order. Left out are those with characters that have no label, with more
        characters than columns, and those whose words or letters could not be told apart.
    """
    was_training = reader.training
    reader.eval()
    order = sorted(range(len(lines)), key=lambda index: lines[index].pixels.shape[1] / lines[index].pixels.shape[0])
    cut: dict[int, CutLine] = {}
    starts = range(0, len(order), _LINES_AT_ONCE)
    for first in track(starts, description="cutting lines", transient=True, disable=not shows_progress):
        chosen = order[first : first + _LINES_AT_ONCE]
        for index, edges in zip(chosen, _edges_of(reader, labels, [lines[index] for index in chosen]), strict=True):
            if edges:
                line = lines[index]
                cut[index] = CutLine(pixels=line.pixels, words=_words(line.text, edges), hand=line.hand)
    reader.train(was_training)
    return [cut[index] for index in sorted(cut)]


def _edges_of(reader: HybridReader, labels: Labels, lines: Sequence[WholeLine]) -> list[tuple[int, ...]]:
    """Give the edges of words and letters of each line, empty where they are not known."""
    as_encoded = [_as_encoded(line.pixels, reader.line_format) for line in lines]
    width_px = padded_width_px(as_encoded, reader.line_format, column_px=reader.column_px)
    ids = [labels.encode(line.text) for line in lines]
    tokens = np.zeros((len(lines), max(1, *map(len, ids))), dtype=np.int64)
    for row, known in zip(tokens, ids, strict=True):
        row[: len(known)] = known
    pixels = stack_lines(as_encoded, reader.line_format, width_px=width_px)
    log_probs = reader.ctc_log_probs(pixels.to(next(reader.parameters()).device))
    columns = align_columns(log_probs.cpu().numpy(), tokens, np.array([len(known) for known in ids]))
    edges = []
    for line, known, row, small in zip(lines, ids, columns, as_encoded, strict=True):
        left_px = (width_px - small.shape[1]) // 2
        middles_px = ((row + 0.5) * reader.column_px - left_px) * line.pixels.shape[1] / small.shape[1]
        is_aligned = len(known) == len(line.text) > 0 and row[0] >= 0
        edges.append(_edges(line.pixels, line.text, middles_px) if is_aligned else ())
    return edges


def _as_encoded(line: GreyLine, line_format: LineFormat) -> GreyLine:
    """Bring a line to the size in which the encoder sees it."""
    height, width = line.shape
    return scaled(line, min(line_format.height_px / height, line_format.width_px / width))


def _edges(pixels: GreyLine, text: str, middles_px: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Give the edges of the words and letters, one more than `text` has characters; empty when out of order.

    A space is cut in the emptiest place between the middles of the characters beside it, and is no wider than the cut;
    letters are cut where the line is thinnest between their middles.
    """
    height, width = pixels.shape
    darkness = pixels.max() - pixels.mean(axis=0)
    gap, stroke = (_smoothed(darkness, max(3, round(height * share))) for share in (_GAP_HEIGHTS, _STROKE_HEIGHTS))
    middles = [int(middle) for middle in np.clip(middles_px, 0, width - 1)]
    edges = [0]
    for index in range(1, len(text)):
        if text[index] == " ":
            edges.append(_emptiest(gap, middles[index - 1], middles[index + 1]))
        elif text[index - 1] == " ":
            edges.append(edges[-1])
        else:
            edges.append(_emptiest(stroke, middles[index - 1], middles[index]))
    edges.append(width)
    widths = [b - a for (a, b), character in zip(pairwise(edges), text, strict=True) if character != " "]
    return tuple(edges) if min(widths) > 0 else ()


def _smoothed(darkness: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    padded = np.pad(darkness, (window // 2, window - 1 - window // 2), mode="edge")
    return np.convolve(padded, np.ones(window) / window, mode="valid")


def _emptiest(ink: npt.NDArray[np.float64], start: int, end: int) -> int:
    """Give the column with the least ink from `start` to before `end`, or at `start` where that is not behind it.

    It is never the first of the line, and of several the middle of their longest stretch.
    """
    start = min(max(1, start), len(ink) - 1)
    columns = ink[start : max(start + 1, end)]
    least = np.flatnonzero(columns <= columns.min() + _SAME_INK)
    stretches = np.split(least, np.flatnonzero(np.diff(least) > 1) + 1)
    longest = max(stretches, key=len)
    return start + int(longest[len(longest) // 2])


def _words(text: str, edges: tuple[int, ...]) -> tuple[CutWord, ...]:
    words, start = [], 0
    for word in text.split(" "):
        words.append(CutWord(text=word, edges_px=edges[start : start + len(word) + 1]))
        start += len(word) + 1
    return tuple(words)
