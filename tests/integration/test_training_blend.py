"""Which weights a run ends with: the last, unless others read better by more than chance."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from transformers import VisionEncoderDecoderModel

from tests.small_reader import small_reader
from training.error_rates import ErrorRates
from training.hybrid_reader import HybridReader
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
        return ErrorRates(cer=far, wer=far, lines=100)


_PLAN = TrainingPlan(
    seed=7,
    minutes=1,
    most_views=0,
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


class _Verdicts:
    """Gives one verdict after the other."""

    def __init__(self, cers: list[float], *, lines: int) -> None:
        self._rates = iter([ErrorRates(cer=cer, wer=2 * cer, lines=lines) for cer in cers])

    def rates(self, _: VisionEncoderDecoderModel) -> ErrorRates:
        return next(self._rates)


def _trainer(folder: Path, reader: HybridReader, judge: object, *, fine_tunes: bool) -> Trainer:
    return Trainer(
        reader,
        maker=None,  # type: ignore[arg-type]  # nothing is learnt here
        evaluator=judge,  # type: ignore[arg-type]
        plan=_PLAN,
        most_lines=float("inf"),
        state_folder=folder,
        rank=0,
        device=torch.device("cpu"),
        fine_tunes=fine_tunes,
    )


@pytest.mark.parametrize(("lines", "kept"), [(4, 2), (400, 1)])
def test_few_validation_lines_choose_no_earlier_weights_by_chance(tmp_path: Path, lines: int, kept: int) -> None:
    cers = [0.30, 0.28, 0.29, 0.36]
    trainer = _trainer(tmp_path, small_reader(ctc_weight=0.0), _Verdicts(cers, lines=lines), fine_tunes=True)
    for index in range(len(cers)):
        for weight in trainer._keeper.average:
            weight.fill_(index)
        trainer._evaluate()
    assert {float(weight.flatten()[0]) for weight in trainer._kept} == {kept}
    state = trainer.state
    assert (state.kept_cer, state.kept_wer, state.lowest_cer) == (cers[kept], 2 * cers[kept], 0.28)
    assert state.evaluations_since_lowest == 2


@pytest.mark.parametrize(
    ("fine_tunes", "liked_share", "ended"), [(True, 0.5, 0.5), (True, 0.0, 0.0), (False, 0.5, 0.0)]
)
def test_the_share_of_the_start_that_reads_best_is_kept(
    tmp_path: Path, fine_tunes: bool, liked_share: float, ended: float
) -> None:
    reader = small_reader(ctc_weight=0.0)
    judge = _Judge([weight.detach() + 1 - liked_share for weight in reader.parameters()])
    trainer = _trainer(tmp_path, reader, judge, fine_tunes=fine_tunes)
    learnt = [weight + 1 for weight in trainer._keeper.weights]
    trainer._kept = [weight.clone() for weight in learnt]
    trainer.state.kept_cer = judge.far(learnt)
    blended = trainer._blended(lambda _: None)
    assert trainer.start_share == ended
    for weight, after in zip(learnt, blended, strict=True):
        assert torch.allclose(after, weight - ended, atol=1e-5)
