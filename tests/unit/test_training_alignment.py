import numpy as np

from training.alignment import align_columns


def _certain(path: list[int], classes: int = 4) -> np.ndarray:
    log_probs = np.full((1, len(path), classes), -5.0, dtype=np.float32)
    log_probs[0, np.arange(len(path)), path] = -0.1
    return log_probs


def test_each_character_stands_in_the_middle_of_its_columns() -> None:
    columns = align_columns(_certain([0, 1, 1, 1, 0, 2, 0]), np.array([[1, 2]]), np.array([2]))
    assert columns.tolist() == [[2, 5]]


def test_a_doubled_letter_needs_a_blank_between() -> None:
    columns = align_columns(_certain([1, 1, 0, 1, 1]), np.array([[1, 1]]), np.array([2]))
    assert columns.tolist() == [[0, 3]]


def test_what_lies_beyond_a_text_has_no_column() -> None:
    columns = align_columns(_certain([0, 3, 0]), np.array([[3, 2, 2]]), np.array([1]))
    assert columns.tolist() == [[1, -1, -1]]


def test_a_text_with_more_characters_than_columns_has_none() -> None:
    columns = align_columns(_certain([1, 2]), np.array([[1, 2, 3]]), np.array([3]))
    assert columns.tolist() == [[-1, -1, -1]]
