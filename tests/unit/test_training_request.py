"""What a run is asked for, and what follows from where it starts."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._paths import filter_repo_objects

from training.run_request import RunRequest
from training.start import checkpoint_folder
from training.unusable_input import UnusableInput

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
    most_views=None,
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
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a network nor anything in the hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What makes a folder a model of some other command."""
    (tmp_path / "config.json").touch()
    return tmp_path


def _hub_of(monkeypatch: pytest.MonkeyPatch, folder: Path, *files: str) -> None:
    """A hub with one repository of these files, of which it sends those that are wanted."""

    def download(_: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision is None
        folder.mkdir(exist_ok=True)
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (folder / file).touch()
        return str(folder)

    monkeypatch.setattr("core.hub.snapshot_download", download)


def test_a_model_of_this_command_is_known_by_its_head_on_the_hub_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hub_of(monkeypatch, tmp_path / "got", "config.json", "model.safetensors", "ctc_head.safetensors")
    plan = _REQUEST.plan(checkpoint_folder("someone/hand"))
    assert (plan.ctc_weight, plan.mixed_share, plan.batch_tokens) == (0.7, 0.5, 1000)


@pytest.mark.parametrize("safetensors", [[], ["model.safetensors"]])
def test_pickled_weights_are_fetched_only_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safetensors: list[str]
) -> None:
    _hub_of(monkeypatch, tmp_path / "got", "config.json", "pytorch_model.bin", "tf_model.h5", *safetensors)
    fetched = {file.name for file in checkpoint_folder("someone/hand").iterdir()}
    assert fetched == {"config.json", *(safetensors or ["pytorch_model.bin"])}


def test_another_checkpoint_learns_without_the_head(checkpoint: Path) -> None:
    plan = _REQUEST.plan(checkpoint_folder(str(checkpoint)))
    assert (plan.ctc_weight, plan.mixed_share, plan.batch_tokens) == (0.0, 0.0, 2500)


def test_a_new_model_learns_fast_and_from_short_lines_first(tmp_path: Path) -> None:
    new, tuned = _REQUEST.plan(None), _REQUEST.plan(tmp_path)
    assert (new.learning_rate, tuned.learning_rate) == (1e-3, 4e-5)
    assert (new.short_lines, tuned.short_lines) == (60_000, 0)
    assert (new.most_views, tuned.most_views) == (0, 400)
    assert (new.augmentation, tuned.augmentation) == (0.4, 0.7)


def test_what_is_asked_for_goes_before_what_is_usual(tmp_path: Path) -> None:
    asked = replace(
        _REQUEST, learning_rate=0.5, augmentation=0.0, batch_tokens=7, short_lines=0, ctc_weight=0.1, most_views=9
    )
    for plan in (asked.plan(None), asked.plan(tmp_path)):
        assert (plan.learning_rate, plan.augmentation, plan.batch_tokens) == (0.5, 0.0, 7)
        assert (plan.short_lines, plan.ctc_weight, plan.most_views) == (0, 0.1, 9)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("./nowhere", "is no folder, and cannot be the id of a hub repository"),
        ("someone/else", "hub cannot be reached"),
        ("", "cannot be the id"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_a_checkpoint_that_is_nowhere_is_named(name: str, reason: str) -> None:
    with pytest.raises(UnusableInput, match=f"{name}.*{reason}"):
        checkpoint_folder(name)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"no config\.json"):
        checkpoint_folder(str(tmp_path))
