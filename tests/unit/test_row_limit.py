"""How many rows are used after the device ran out of memory."""

from __future__ import annotations

import pytest

from worker.row_limit import RowLimit


@pytest.mark.parametrize(
    ("rows", "used", "limit"),
    [
        (16, 16, 8),
        (16, 9, 4),  # 9 / 2
        (16, 1, 1),  # never none
        (1, 1, 1),
    ],
)
def test_half_of_what_was_used_is_the_new_limit(rows: int, used: int, limit: int) -> None:
    row_limit = RowLimit(rows)
    row_limit.halve(used)
    assert row_limit.now == limit


def test_rows_come_back_one_by_one_up_to_all_of_them() -> None:
    row_limit = RowLimit(4)
    row_limit.halve(4)
    seen = []
    for _ in range(4 * 128):
        row_limit.count_read()
        seen.append(row_limit.now)
    assert (seen[0], seen[127], seen[255], seen[-1]) == (2, 3, 4, 4)


@pytest.mark.parametrize(("rows", "shared"), [(1, 1), (4, 4), (7, 7), (8, 7), (16, 14), (64, 56)])
def test_an_eighth_of_the_rows_is_for_interactive_lines(rows: int, shared: int) -> None:
    assert RowLimit(rows).shared == shared


def test_memory_is_left_for_what_is_encoded_ahead_until_it_runs_out() -> None:
    limit = RowLimit(4)
    read(limit, 127)
    assert limit.leaves_memory
    limit.leave_no_memory()
    read(limit, 127)
    assert (limit.leaves_memory, limit.now) == (False, 4)
    read(limit, 1)
    assert limit.leaves_memory


def test_after_rows_were_lost_memory_is_left_again_when_all_of_them_suffice() -> None:
    limit = RowLimit(4)
    limit.halve(4)
    read(limit, 2 * 128 + 127)
    assert (limit.leaves_memory, limit.now) == (False, 4)
    read(limit, 1)
    assert limit.leaves_memory


def read(limit: RowLimit, lines: int) -> None:
    for _ in range(lines):
        limit.count_read()
