"""A fine-tune ends with an average of what it knew and what it learnt, if that reads better."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from transformers import VisionEncoderDecoderModel

from tests.small_reader import small_reader
from training.error_rates import ErrorRates
from training.plan import TrainingPlan
from training.trainer import Trainer


class _Judge:
    """Says how well weights read by how far they are from those it likes best."""

    def __init__(self, liked: list[torch.Tensor]) -> None:
        self._liked = liked

    def far(self, weights: Iterable[torch.Tensor]) -> float:
        return sum(float((a.detach() - b).abs().sum()) for a, b in zip(weights, self._liked, strict=True))

    def rates(self, model: VisionEncoderDecoderModel) -> ErrorRates:
        far = self.far(model.parameters())
        return ErrorRates(cer=far, wer=far, lines=1)


_PLAN = TrainingPlan(
    seed=7,
    minutes=1,
    learning_rate=1.0,
    warmup_steps=1,
    batch_tokens=100,
    ctc_weight=0.0,
    real_share=1.0,
    mixed_share=0.0,
    dropout=None,
    augmentation=0.0,
    short_lines=0,
    corruption=0.0,
    evaluate_minutes=1,
    patience=1,
)


@pytest.mark.parametrize(
    ("fine_tunes", "liked_share", "ended"), [(True, 0.5, 0.5), (True, 0.0, 0.0), (False, 0.5, 0.0)]
)
def test_the_share_of_the_start_that_reads_best_is_kept(
    tmp_path: Path, fine_tunes: bool, liked_share: float, ended: float
) -> None:
    reader = small_reader(ctc_weight=0.0)
    judge = _Judge([weight.detach() + 1 - liked_share for weight in reader.parameters()])
    trainer = Trainer(
        reader,
        maker=None,  # type: ignore[arg-type]  # nothing is learnt here
        evaluator=judge,  # type: ignore[arg-type]
        plan=_PLAN,
        state_folder=tmp_path,
        rank=0,
        device=torch.device("cpu"),
        fine_tunes=fine_tunes,
    )
    learnt = [weight.detach() + 1 for weight in reader.parameters()]
    trainer._best = [weight.clone() for weight in learnt]
    trainer.state.best_cer = judge.far(learnt)
    blended = trainer._blended(lambda _: None)
    assert trainer.start_share == ended
    for weight, after in zip(learnt, blended, strict=True):
        assert torch.allclose(after, weight - ended, atol=1e-5)
