"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.batches import Batch, BatchMaker
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.error_rates import ErrorRates
from training.evaluation import Evaluator
from training.hybrid_reader import HybridReader, Losses
from training.optimizer import WeightKeeper
from training.plan import TrainingPlan
from training.processes import mean, process_count

_SMOOTHING = 0.98
#: Share of the lines that end a run after which it is evaluated at the latest: they may take no more than minutes.
_LONGEST_UNSEEN = 0.1
#: Shares of the start that are tried in the end.
_START_SHARES = (0.25, 0.5, 0.75)
#: CER of one line may differ so much by chance. Chosen below what was measured: between the bundled model's weights
#: before and after its last run it differed with a standard deviation of 0.076, over 96 held-back lines.
_LINE_DEVIATION = 0.05


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress bar shows."""

    state: RunState
    #: Smoothed losses per token, nats.
    cross_entropy: float
    ctc: float
    #: Share of the run that is over, in [0, 1].
    spent: float
    #: The evaluation that was just made, or None.
    rates: ErrorRates | None


class Trainer:
    """Learns until the time is over or the validation lines are read no better."""

    def __init__(
        self,
        reader: HybridReader,
        maker: BatchMaker,
        evaluator: Evaluator,
        plan: TrainingPlan,
        *,
        most_lines: float,
        state_folder: Path,
        rank: int,
        device: torch.device,
        fine_tunes: bool,
    ) -> None:
        """Put the parts together.

        Args:
            reader: The model with its losses, on the CPU, float32.
            maker: Where batches come from.
            evaluator: Validation lines.
            plan: The settings.
            most_lines: The run ends when it has learnt from so many.
            state_folder: Where checkpoints are kept.
            rank: 0 evaluates and writes; others only learn.
            device: Where to compute.
            fine_tunes: Whether the reader can read already, so that what it knew is worth keeping.
        """
        self._reader = reader.to(device)
        self._keeper = WeightKeeper(reader, compute_dtype=compute_dtype(device))
        self._kept = [weight.clone() for weight in self._keeper.average]
        self._start = [weight.clone() for weight in self._keeper.weights] if fine_tunes else []
        #: Share of the start in the weights that the run ends with.
        self.start_share = 0.0
        self._maker = maker
        self._evaluator = evaluator
        self._plan = plan
        self._most_lines = most_lines
        self._folder = state_folder
        self._rank = rank
        self._device = device
        self.state = RunState()

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False when there is none."""
        found = load_checkpoint(self._folder)
        if found is None:
            return False
        self.state, weights, kept = found
        self._keeper.load_state_dict(weights)
        self._kept = [weight.to(self._device) for weight in kept]
        return True

    def run(self, report: Callable[[Progress], None]) -> None:
        """Learn, and leave the reader with averaged weights, float32: the last, unless earlier ones read better."""
        session_start, minutes_before = time.monotonic(), self.state.minutes
        evaluated_at, evaluated_lines = self.state.minutes, self.state.lines
        smooth = np.zeros(2)
        self._reader.train()
        for batch in self._batches():
            losses = self._learn(batch)
            self.state.minutes = minutes_before + (time.monotonic() - session_start) / 60
            now = np.array([losses.cross_entropy.item(), losses.ctc.item()])
            smooth = smooth * _SMOOTHING + now * (1 - _SMOOTHING) if smooth.any() else now
            rates = None
            over = self._agreed(self._spent >= 1.0)
            due = self.state.minutes - evaluated_at >= self._plan.evaluate_minutes
            due |= self.state.lines - evaluated_lines >= _LONGEST_UNSEEN * self._most_lines
            if over or self._agreed(due):
                rates = self._evaluate()
                evaluated_at, evaluated_lines = self.state.minutes, self.state.lines
                over = over or self._agreed(self.state.evaluations_since_lowest >= self._plan.patience)
            report(self._progress(smooth, rates))
            if over:
                break
        final = self._kept if self._rank else self._blended(lambda rates: report(self._progress(smooth, rates)))
        self._reader.float()
        self._keeper.compute_with(final)

    def _progress(self, losses: npt.NDArray[np.float64], rates: ErrorRates | None) -> Progress:
        return Progress(state=self.state, cross_entropy=losses[0], ctc=losses[1], spent=self._spent, rates=rates)

    @property
    def _spent(self) -> float:
        """Share of the run that is over, in [0, 1]: of its minutes or of its lines, whichever is more."""
        return min(1.0, max(self.state.minutes / self._plan.minutes, self.state.lines / self._most_lines))

    def _batches(self) -> Iterator[Batch]:
        """Make batches without end; a resumed run draws other lines than those it has learnt from."""
        rng = np.random.default_rng((self._plan.seed, self._rank, self.state.steps))
        torch.manual_seed(self._plan.seed + self._rank + self.state.steps)
        while True:
            lesson = self._plan.lesson_at(self.state.lines)
            yield from self._maker.batches(
                lesson, rng, tokens=self._plan.batch_tokens, line_tokens=self._reader.line_tokens
            )

    def _learn(self, batch: Batch) -> Losses:
        batch = Batch(**{name: part.to(self._device) for name, part in vars(batch).items()})
        losses = self._reader.losses(batch, corruption=self._plan.corruption)
        losses.total.backward()  # type: ignore[no-untyped-call]
        gradient = mean(self._keeper.flat_gradient())
        rate = self._plan.rate_at(self.state.steps, self._spent)
        self._keeper.step(gradient, learning_rate=rate, steps_done=self.state.steps)
        self.state.steps += 1
        # Counted alike by all processes, which must have the same rate.
        self.state.lines += round(float(mean(torch.tensor([float(len(batch.tokens))]))) * process_count())
        return losses

    def _evaluate(self) -> ErrorRates | None:
        """Measure the averaged weights and write a checkpoint, in rank 0 alone."""
        if self._rank:
            return None
        self._keeper.compute_with(self._keeper.average)
        rates = self._evaluator.rates(self._reader.model)
        self.state.evaluations_since_lowest += 1
        if rates.cer < self.state.lowest_cer:
            self.state.lowest_cer, self.state.evaluations_since_lowest = rates.cer, 0
        if rates.cer <= self.state.lowest_cer + _chance(rates):
            self.state.kept_cer, self.state.kept_wer = rates.cer, rates.wer
            self._kept = [weight.clone() for weight in self._keeper.average]
        self._keeper.compute_with(self._keeper.weights)
        save_checkpoint(self._folder, self.state, self._keeper.state_dict(), self._kept, self._plan)
        return rates

    def _blended(self, tell: Callable[[ErrorRates], None]) -> list[torch.Tensor]:
        """Average the kept weights with those of the start, if and as the validation lines are read better by it.

        Source:
            Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022.
        """
        best, learnt_cer = self._kept, self.state.kept_cer
        for share in _START_SHARES if self._start else ():
            weights = [weight.lerp(start, share) for weight, start in zip(self._kept, self._start, strict=True)]
            self._keeper.compute_with(weights)
            rates = self._evaluator.rates(self._reader.model)
            if rates.cer < min(learnt_cer - _chance(rates), self.state.kept_cer):
                self.state.kept_cer, self.state.kept_wer = rates.cer, rates.wer
                best, self.start_share = weights, share
            tell(rates)
        return best

    def _agreed(self, wish: bool) -> bool:
        """Decide for all processes together: yes when any wishes it, since all must leave the loop at one step."""
        return bool(mean(torch.tensor([float(wish)])) > 0)


def _chance(rates: ErrorRates) -> float:
    """Give the difference of CER that so many validation lines cannot tell from chance.

    Of two or three lines, as there are when a hand has twenty, the lowest CER is luck: whoever keeps it keeps weights
    that have hardly learnt.
    """
    return _LINE_DEVIATION / math.sqrt(rates.lines)


def compute_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 where the device multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
