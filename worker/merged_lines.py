"""One reading out of those of a long line's parts, each of which saw some words of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from core.transcript import Flag, Token
from worker.confidence import confidence_of, pieces_of, words_of
from worker.line_parts import Part
from worker.recognizer import Recognition

#: What it costs, in edits, to take the common text for one character longer or shorter than the ink lets expect. On 60
#: pictures of two to four test lines side by side, CER was 0.307 with 0.5, 0.272 with 1, and no better with more.
_UNEXPECTED = 1.0
#: The longest that the common text may be: so many times what is expected, and so many characters.
_TIMES, _MORE = 2, 8


@dataclass(frozen=True, kw_only=True)
class PartReading:
    """What was read in a part of a line."""

    part: Part
    #: With its pieces.
    recognition: Recognition

    @property
    def pieces(self) -> Sequence[Token]:
        """The tokens that its text is made of."""
        return self.recognition.pieces or ()


@dataclass(frozen=True, kw_only=True)
class _Seam:
    """Where the readings of two neighbours are cut and joined."""

    #: Pieces of the left reading that are kept.
    left_end: int
    #: Pieces of the right reading that are left out.
    right_start: int
    #: Nothing was found in common, so that a space must stand between them.
    apart: bool


def merged(readings: Sequence[PartReading], *, max_new_tokens: int | None) -> Recognition:
    """Put together what was read in the parts of one line.

    Where two of them meet, their common text is found as the alignment of the end of one with the beginning of the
    other that has the fewest edits; its first half is taken from the left reading and its second from the right one,
    each as far from the cuts as can be. Tokens stay whole and keep their own probabilities.

    Args:
        readings: From left to right, at least one.
        max_new_tokens: Leave out tokens after so many; None leaves out none.
    """
    seams = [_seam(left, right) for left, right in pairwise(readings)]
    starts = [0, *(seam.right_start for seam in seams)]
    ends = [*(seam.left_end for seam in seams), len(readings[-1].pieces)]
    tokens: list[int] = []
    pieces: list[Token] = []
    for reading, start, end, apart in zip(
        readings, starts, ends, [False, *(seam.apart for seam in seams)], strict=True
    ):
        kept = list(reading.pieces[start:end])
        if apart and kept and pieces:
            kept[0] = replace(kept[0], text=" " + kept[0].text)
        pieces += kept
        tokens += reading.recognition.tokens[start:end]
    return _recognition(tokens, pieces, readings, max_new_tokens)


def _recognition(
    tokens: Sequence[int], pieces: Sequence[Token], readings: Sequence[PartReading], max_new_tokens: int | None
) -> Recognition:
    # the end of the line is the end of its last part
    last = readings[-1].recognition
    logprobs = [piece.logprob for piece in pieces] + list(last.token_logprobs[len(readings[-1].pieces) :])
    tokens = [*tokens, *last.tokens[len(readings[-1].pieces) :]]
    flags = frozenset({Flag.LONG_LINE}).union(*(reading.recognition.flags for reading in readings))
    if max_new_tokens is not None and len(tokens) > max_new_tokens:
        flags |= {Flag.TRUNCATED}
        tokens, logprobs, pieces = tokens[:max_new_tokens], logprobs[:max_new_tokens], pieces[:max_new_tokens]
    text = "".join(piece.text for piece in pieces)
    ends = list(accumulate(len(piece.text) for piece in pieces))
    return Recognition(
        text=text.strip(),
        confidence=confidence_of(logprobs),
        words=words_of(text, ends, logprobs),
        tokens=tuple(tokens),
        token_logprobs=tuple(logprobs),
        flags=flags,
        pieces=pieces_of(text, ends, logprobs, [piece.alternatives for piece in pieces]),
    )


def _seam(left: PartReading, right: PartReading) -> _Seam:
    left_text, right_text = left.recognition.text, right.recognition.text
    left_expected = len(left_text) * left.part.shared_right
    right_expected = len(right_text) * right.part.shared_left
    most = round(_TIMES * max(left_expected, right_expected)) + _MORE
    tail, head = left_text[max(0, len(left_text) - most) :], right_text[:most]
    before = len(left_text) - len(tail)
    left_cuts, right_cuts = _cuts(left.pieces), _cuts(right.pieces)
    path = _alignment(
        tail,
        head,
        [
            _UNEXPECTED / 2 * abs(len(tail) - i - left_expected) if before + i in left_cuts else math.inf
            for i in range(len(tail) + 1)
        ],
        [_UNEXPECTED / 2 * abs(j - right_expected) if j in right_cuts else math.inf for j in range(len(head) + 1)],
    )
    (first, _), (_, last) = path[0], path[-1]
    i, j = min(
        ((i, j) for i, j in path if before + i in left_cuts and j in right_cuts),
        key=lambda cut: abs(2 * cut[0] - first - len(tail)) + abs(2 * cut[1] - last),
    )
    return _Seam(left_end=left_cuts[before + i], right_start=right_cuts[j], apart=first == len(tail) and last == 0)


def _cuts(pieces: Sequence[Token]) -> dict[int, int]:
    """Where a text can be cut between two tokens: the tokens before each place, by the characters before it.

    A token without text is a part of the next character.
    """
    cuts = {0: 0}
    for count, end in enumerate(accumulate(len(piece.text) for piece in pieces), start=1):
        cuts.setdefault(end, count)
    return cuts | {max(cuts): len(pieces)}


def _alignment(tail: str, head: str, start_costs: Sequence[float], end_costs: Sequence[float]) -> list[tuple[int, int]]:
    """Align the end of `tail` with the beginning of `head` with the least sum of edits and costs.

    Args:
        tail: Its first characters may be left out.
        head: Its last characters may be left out.
        start_costs: Of leaving out so many characters of `tail`.
        end_costs: Of taking so many characters of `head`.

    Returns:
        The numbers of characters of either one that lie before each step, the first and the last place included.
    """
    costs: list[list[float]] = []
    for i in range(len(tail) + 1):
        row = [min(start_costs[i], costs[-1][0] + 1 if costs else math.inf)]
        for j, character in enumerate(head):
            cost = row[j] + 1
            if costs:
                cost = min(cost, costs[-1][j + 1] + 1, costs[-1][j] + (tail[i - 1] != character))
            row.append(cost)
        costs.append(row)
    last = min(range(len(head) + 1), key=lambda j: costs[-1][j] + end_costs[j])
    return _path(costs, tail, head, start_costs, last)


def _path(
    costs: Sequence[Sequence[float]], tail: str, head: str, start_costs: Sequence[float], last: int
) -> list[tuple[int, int]]:
    """The steps that led to the end of `tail` and place `last` of `head`, from the first on."""
    i, j = len(tail), last
    path = [(i, j)]
    while j or costs[i][j] != start_costs[i]:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (tail[i - 1] != head[j - 1]):
            i, j = i - 1, j - 1
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
        path.append((i, j))
    return path[::-1]
