"""Steps and encoding take turns while somebody waits."""

from __future__ import annotations

import pytest

from worker.encode_budget import EncodeBudget


@pytest.mark.parametrize(
    ("group_s", "steps_s", "allowed"),
    [
        (0.5, [], False),
        (0.5, [0.25], False),
        (0.5, [0.25, 0.25], True),
        (0.001, [0.002], True),  # cheap encoding keeps nobody waiting
    ],
)
def test_as_long_as_a_group_took_steps_are_made_before_the_next(
    group_s: float, steps_s: list[float], allowed: bool
) -> None:
    budget = EncodeBudget()
    budget.count_group(group_s)
    for step_s in steps_s:
        budget.count_step(step_s)
    assert budget.allows_group is allowed


def test_the_first_group_is_allowed() -> None:
    assert EncodeBudget().allows_group


def test_steps_are_not_saved_up_for_a_second_group() -> None:
    budget = EncodeBudget()
    budget.count_step(9.0)
    budget.count_group(0.5)
    assert not budget.allows_group
