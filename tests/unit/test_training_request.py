"""What a run is asked for, and what follows from where it starts."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from training.hybrid_reader import CTC_HEAD_FILE
from training.run_request import RunRequest
from training.start import CheckpointNotFound, checkpoint_folder

_REQUEST = RunRequest(
    out=Path("model"),
    data=(Path("lines.tsv"),),
    model=None,
    validation=(),
    fonts=(),
    words=(),
    texts=(),
    synthetic_lines=1,
    minutes=1.0,
    learning_rate=None,
    ctc_weight=None,
    real_share=1.0,
    mixed_share=0.5,
    dropout=None,
    augmentation=None,
    batch_tokens=None,
    short_lines=None,
    evaluate_minutes=None,
    patience=1,
    processes=1,
    device="cpu",
    seed=7,
    resume=False,
)


@pytest.fixture
def cached_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of this command in the hub's cache, with no network."""
    repository = tmp_path / "models--someone--hand"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / CTC_HEAD_FILE).touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_model_of_this_command_is_known_by_its_head_on_the_hub_too(cached_model: Path) -> None:
    folder = checkpoint_folder("someone/hand")
    assert folder == cached_model
    plan = _REQUEST.plan(folder)
    assert (plan.ctc_weight, plan.mixed_share, plan.batch_tokens) == (0.7, 0.5, 1000)


def test_another_checkpoint_learns_without_the_head(tmp_path: Path) -> None:
    plan = _REQUEST.plan(checkpoint_folder(str(tmp_path)))
    assert (plan.ctc_weight, plan.mixed_share, plan.batch_tokens) == (0.0, 0.0, 2500)


def test_a_new_model_learns_fast_and_from_short_lines_first(tmp_path: Path) -> None:
    new, tuned = _REQUEST.plan(None), _REQUEST.plan(tmp_path)
    assert new.learning_rate > 10 * tuned.learning_rate
    assert (new.short_lines, tuned.short_lines) == (60_000, 0)
    assert (new.augmentation, tuned.augmentation) == (0.4, 0.7)


def test_what_is_asked_for_goes_before_what_is_usual(tmp_path: Path) -> None:
    asked = replace(_REQUEST, learning_rate=0.5, augmentation=0.0, batch_tokens=7, short_lines=0, ctc_weight=0.1)
    for plan in (asked.plan(None), asked.plan(tmp_path)):
        assert (plan.learning_rate, plan.augmentation, plan.batch_tokens) == (0.5, 0.0, 7)
        assert (plan.short_lines, plan.ctc_weight) == (0, 0.1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("./nowhere", "cannot be the id of a hub repository"), ("someone/else", "hub cannot be reached")],
)
@pytest.mark.usefixtures("cached_model")
def test_a_checkpoint_that_is_nowhere_is_named(name: str, reason: str) -> None:
    with pytest.raises(CheckpointNotFound, match=f"{name} is no folder.*{reason}"):
        checkpoint_folder(name)
