"""What one training run is asked for."""

from dataclasses import dataclass
from pathlib import Path

from training.hybrid_reader import CTC_HEAD_FILE
from training.plan import TrainingPlan

_CTC_WEIGHT = 0.7
#: Of the lines of a fine-tune. With 17 lines of one hand, and again of another, other lines of it were read best after
#: some 280 (CER 0.222 before, 0.140 then; 0.112 and 0.056), and slowly worse from there (0.177 and 0.075 after 1,100).
_MOST_VIEWS = 400


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options of the command, as `training/__main__.py` explains them."""

    out: Path
    data: tuple[Path, ...]
    model: str | None
    validation: tuple[Path, ...]
    fonts: tuple[Path, ...]
    words: tuple[Path, ...]
    texts: tuple[Path, ...]
    synthetic_lines: int
    minutes: float
    most_views: int | None
    learning_rate: float | None
    ctc_weight: float | None
    real_share: float
    mixed_share: float
    dropout: float | None
    augmentation: float | None
    batch_tokens: int | None
    short_lines: int | None
    evaluate_minutes: float | None
    patience: int
    processes: int
    device: str
    seed: int
    resume: bool

    @property
    def state_folder(self) -> Path:
        """Where checkpoints and synthetic lines are kept."""
        return self.out.with_name(self.out.name + ".state")

    def plan(self, start_folder: Path | None) -> TrainingPlan:
        """Give the settings, some of which depend on where the run starts: None is a new model."""
        new = start_folder is None
        has_learnt_head = start_folder is not None and (start_folder / CTC_HEAD_FILE).is_file()
        ctc_weight = _CTC_WEIGHT * (new or has_learnt_head) if self.ctc_weight is None else self.ctc_weight
        return TrainingPlan(
            seed=self.seed,
            minutes=self.minutes,
            most_views=(0 if new else _MOST_VIEWS) if self.most_views is None else self.most_views,
            learning_rate=self.learning_rate or (1e-3 if new else 4e-5),
            warmup_steps=100 if new else 20,
            batch_tokens=self.batch_tokens or (1000 if has_learnt_head else 2500),
            ctc_weight=ctc_weight,
            real_share=self.real_share,
            mixed_share=self.mixed_share if has_learnt_head and ctc_weight else 0.0,
            dropout=self.dropout,
            augmentation=(0.4 if new else 0.7) if self.augmentation is None else self.augmentation,
            short_lines=(60_000 if new else 0) if self.short_lines is None else self.short_lines,
            corruption=0.05 if new else 0.15,
            evaluate_minutes=self.evaluate_minutes or min(5.0, self.minutes / 10),
            patience=self.patience,
        )
