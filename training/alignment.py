"""Where in the line each character stands, after the CTC head."""

import numpy as np
import numpy.typing as npt

_IMPOSSIBLE = -1e9


def align_columns(
    log_probs: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Find the most probable CTC path of each text and give the middle column of each of its tokens.

    Args:
        log_probs: (B, T, V), natural logarithms; class 0 is blank.
        tokens: (B, L) labels, 1 to V - 1; what lies beyond `lengths` is ignored.
        lengths: (B,) number of labels of each line.

    Returns:
        (B, L) columns in 0 to T - 1; -1 beyond a text, and all over a text that has more labels than there are columns.

    Source:
        Viterbi over the labels with blanks between, as in Graves et al., Connectionist Temporal Classification, 2006.
    """
    path = _best_path(log_probs, tokens, lengths)
    batch, columns = path.shape
    first = np.full((batch, 2 * tokens.shape[1] + 1), columns, dtype=np.int64)
    last = np.full_like(first, -1)
    rows = np.arange(batch)
    for column in range(columns):
        states = np.maximum(path[:, column], 0)
        first[rows, states] = np.minimum(first[rows, states], column)
        last[rows, states] = column
    middle = np.where(last >= 0, (first + last) // 2, -1)[:, 1::2]
    beyond = np.arange(tokens.shape[1])[None] >= lengths[:, None]
    return np.where(beyond | (path[:, :1] < 0), -1, middle)


def _best_path(
    log_probs: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Give the state (2 i + 1 is label i, even ones are blanks) of each column, (B, T); -1 where there is no path."""
    batch, columns, _ = log_probs.shape
    labels = np.zeros((batch, 2 * tokens.shape[1] + 1), dtype=np.int64)
    labels[:, 1::2] = tokens
    emitted = np.take_along_axis(log_probs, np.broadcast_to(labels[:, None], (batch, columns, labels.shape[1])), axis=2)
    may_skip = np.zeros(labels.shape, dtype=bool)
    may_skip[:, 3::2] = labels[:, 3::2] != labels[:, 1:-2:2]
    score = np.full(labels.shape, _IMPOSSIBLE, dtype=np.float32)
    score[:, :2] = emitted[:, 0, :2]
    came_by = np.zeros((columns, *labels.shape), dtype=np.int8)
    for column in range(1, columns):
        one = np.pad(score[:, :-1], ((0, 0), (1, 0)), constant_values=_IMPOSSIBLE)
        two = np.where(may_skip, np.pad(score[:, :-2], ((0, 0), (2, 0)), constant_values=_IMPOSSIBLE), _IMPOSSIBLE)
        choices = np.stack((score, one, two))
        came_by[column] = choices.argmax(axis=0)
        score = choices.max(axis=0) + emitted[:, column]
    rows = np.arange(batch)
    state = np.where(score[rows, 2 * lengths] >= score[rows, 2 * lengths - 1], 2 * lengths, 2 * lengths - 1)
    possible = score[rows, state] > _IMPOSSIBLE / 2
    path = np.full((batch, columns), -1, dtype=np.int64)
    for column in range(columns - 1, -1, -1):
        path[:, column] = np.where(possible, state, -1)
        state = state - came_by[column][rows, state]
    return path
