import math
from dataclasses import replace

import pytest

from training.plan import TrainingPlan

_PLAN = TrainingPlan(
    seed=7,
    minutes=60,
    most_views=400,
    learning_rate=1.0,
    warmup_steps=10,
    batch_tokens=100,
    ctc_weight=0.5,
    real_share=0.5,
    mixed_share=0.2,
    dropout=None,
    augmentation=0.4,
    short_lines=1000,
    corruption=0.05,
    evaluate_minutes=3,
    patience=5,
)


@pytest.mark.parametrize(
    ("step", "spent", "rate"),
    [
        (0, 0.0, 0.1),  # 1 of 10 warm-up steps
        (9, 0.0, 1.0),
        (500, 0.6, 1.0),  # the plateau lasts two thirds
        (900, 5 / 6, 0.5),  # half of the last third is left
        (999, 1.0, 0.02),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(step: int, spent: float, rate: float) -> None:
    assert _PLAN.rate_at(step, spent) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("most_views", "real_share", "draws", "most_lines"),
    [
        (400, 0.5, False, 8000),  # 400 * 20
        (400, 0.5, True, 16_000),  # half of all lines are real
        (400, 0.0, True, math.inf),
        (0, 0.5, False, math.inf),
    ],
)
def test_a_run_ends_when_its_real_lines_were_learnt_from_so_often(
    most_views: int, real_share: float, draws: bool, most_lines: float
) -> None:
    plan = replace(_PLAN, most_views=most_views, real_share=real_share)
    assert plan.most_lines(20, draws=draws) == most_lines


@pytest.mark.parametrize(
    ("lines", "max_chars", "real_share", "augmentation"),
    [
        (0, 16, 0.15, 0.2),  # 0.5 * 0.3; 0.4 * 0.5
        (500, 58, 0.325, 0.3),  # 16 + 84 / 2; 0.5 * 0.65; 0.4 * 0.75
        (1000, math.inf, 0.5, 0.4),
    ],
)
def test_texts_grow_longer_and_more_real(lines: int, max_chars: float, real_share: float, augmentation: float) -> None:
    lesson = _PLAN.lesson_at(lines)
    assert lesson.max_chars == pytest.approx(max_chars)
    assert lesson.real_share == pytest.approx(real_share)
    assert lesson.mixed_share == 0.2
    assert lesson.augmentation == pytest.approx(augmentation)
