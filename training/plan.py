"""What a training run is asked to do."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """All settings of a run that change its result; they are kept in checkpoints and stated in the card."""

    #: Seed of weights, order, augmentation and the choice of validation forms.
    seed: int
    #: The run ends after this many minutes of training, evaluation included; a fine-tune then tries three averages.
    minutes: float
    #: It ends before, when each real line was learnt from so many times, in the mean; 0: however often.
    most_views: int
    #: Highest learning rate of AdamW.
    learning_rate: float
    #: Optimizer steps until that rate is reached.
    warmup_steps: int
    #: Encoder tokens of one batch, over lines; a process's share of the memory and of a step's time.
    batch_tokens: int
    #: Weight of the CTC loss on the encoder's columns beside the decoder's cross-entropy; 0 leaves the head out.
    ctc_weight: float
    #: Share of real lines among those learnt from, in [0, 1]; the rest is synthetic. Reached after `short_lines`.
    real_share: float
    #: Share of the real lines that are joined anew from words or letters, in [0, 1]; 0 where no CTC head can cut them.
    mixed_share: float
    #: Share of features that are dropped while learning; None: as the checkpoint's configuration says.
    dropout: float | None
    #: How far lines are varied, in [0, 1]; reached after `short_lines`.
    augmentation: float
    #: Lines over which texts grow from 16 characters to any length; 0 takes all lengths from the start.
    short_lines: int
    #: Share of the decoder's input tokens that are replaced at random, so that it looks at the image.
    corruption: float
    #: Minutes between evaluations.
    evaluate_minutes: float
    #: Evaluations without a better CER after which the run ends.
    patience: int

    def most_lines(self, real_lines: int, *, draws: bool) -> float:
        """Give the lines after which the run ends.

        Args:
            real_lines: Those that it learns from.
            draws: Whether it learns from synthetic lines beside them.
        """
        share = self.real_share if draws else 1.0
        return self.most_views * real_lines / share if self.most_views and share else math.inf

    def rate_at(self, step: int, spent: float) -> float:
        """Give the learning rate: a warm-up, a plateau, and a linear descent over the last third.

        Args:
            step: Optimizer steps since the run began.
            spent: Share of the run that is over, in [0, 1].
        """
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warm * min(1.0, max(0.02, (1.0 - spent) * 3.0))

    def lesson_at(self, lines: int) -> "Lesson":
        """Give what kind of lines to learn from after so many."""
        grown = min(1.0, lines / self.short_lines) if self.short_lines else 1.0
        return Lesson(
            max_chars=math.inf if grown >= 1.0 else 16 + 84 * grown,
            real_share=self.real_share * (0.3 + 0.7 * grown),
            mixed_share=self.mixed_share,
            augmentation=self.augmentation * (0.5 + 0.5 * grown),
        )


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Which lines are learnt from at one moment."""

    #: Longer texts are left out.
    max_chars: float
    #: Share of real lines.
    real_share: float
    #: Share of the real lines that are joined anew from words or letters, once texts may be of any length.
    mixed_share: float
    #: How far lines are varied, in [0, 1].
    augmentation: float
