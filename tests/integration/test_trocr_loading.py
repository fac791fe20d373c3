"""From a name to a TrOCR model, or to a message that says what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from structlog.testing import capture_logs
from transformers import VisionEncoderDecoderModel

from core.settings import Settings
from tests.trocr_models import BUNDLED, Shape, read_all, save_random_model, some_lines
from worker.models import ModelUnavailable, load_recognizer
from worker.ppocr import PpocrRecognizer
from worker.recognizer import Recognition, Recognizer, RecognizerOutOfMemory
from worker.trocr import TrocrRecognizer, load_trocr
from worker.trocr_device import choose_device, choose_dtype


def on_cpu(**fields: Any) -> Settings:
    return Settings(device="cpu", dtype="float32", rows=2, **fields)


def test_a_bundled_model_is_found_by_its_name() -> None:
    card = load_recognizer("trocr-tiny", on_cpu()).card
    weights = (BUNDLED / "model.safetensors").read_bytes()
    assert (card.name, card.revision, card.device, card.dtype) == ("trocr-tiny", None, "cpu", "float32")
    assert card.sha256 == hashlib.sha256(weights).hexdigest()
    assert card.parameters > 1_000_000


def test_the_rows_are_those_of_the_settings() -> None:
    assert load_recognizer("trocr-tiny", on_cpu()).rows == 2


def test_a_folder_is_found_by_its_path(tmp_path: Path) -> None:
    copytree(BUNDLED, tmp_path / "mine")
    assert load_recognizer(str(tmp_path / "mine"), on_cpu()).card.name == str(tmp_path / "mine")


def test_pickled_weights_are_loaded_too(tmp_path: Path) -> None:
    save_random_model(tmp_path, Shape())
    with_safetensors = read_all(
        load_trocr(tmp_path, name="safe", device="cpu", dtype="float32"), some_lines(2), at_once=2
    )
    model: Any = VisionEncoderDecoderModel.from_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    pickled = load_trocr(tmp_path, name="pickled", device="cpu", dtype="float32")
    assert read_all(pickled, some_lines(2), at_once=2) == with_safetensors


def test_the_limit_of_a_line_is_the_checkpoints_own_and_never_max_length(tmp_path: Path) -> None:
    save_random_model(tmp_path, Shape(generation={"max_length": 20}, decoder={"max_position_embeddings": 512}))
    assert load_trocr(tmp_path, name="a", device="cpu").checkpoint.max_new_tokens == 128
    save_random_model(tmp_path, Shape(generation={"max_new_tokens": 30}))
    assert load_trocr(tmp_path, name="b", device="cpu").checkpoint.max_new_tokens == 30
    save_random_model(tmp_path, Shape(decoder={"max_position_embeddings": 50}))
    assert load_trocr(tmp_path, name="c", device="cpu").checkpoint.max_new_tokens == 50


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    copytree(BUNDLED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="holds no weights"):
        load_recognizer(str(tmp_path), on_cpu())


def test_damaged_weights_are_reported(tmp_path: Path) -> None:
    copytree(BUNDLED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_recognizer(str(tmp_path), on_cpu())


def test_weights_that_lack_a_layer_are_not_made_up(tmp_path: Path) -> None:
    save_random_model(tmp_path, Shape())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["decoder"]["decoder_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="incomplete"):
        load_recognizer(str(tmp_path), on_cpu())


def test_a_model_larger_than_the_free_memory_is_refused_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed = 4 * load_recognizer("trocr-tiny", on_cpu()).card.parameters
    monkeypatch.setattr("worker.trocr_checkpoint.free_bytes", lambda: needed // 2)
    with pytest.raises(ModelUnavailable, match=r"not enough memory for trocr-tiny: its weights take 1[56] MiB"):
        load_recognizer("trocr-tiny", on_cpu())
    copytree(BUNDLED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    monkeypatch.setattr("worker.trocr_checkpoint.free_bytes", lambda: 10**6)
    with pytest.raises(ModelUnavailable, match="not enough memory"):
        load_recognizer(str(tmp_path), on_cpu())


def test_a_device_without_room_for_a_line_is_found_out_before_the_worker_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise RecognizerOutOfMemory("no room")

    monkeypatch.setattr(TrocrRecognizer, "admit", full)
    with pytest.raises(ModelUnavailable, match="not enough memory to read with trocr-tiny"):
        load_recognizer("trocr-tiny", on_cpu())


@pytest.mark.parametrize("name", ["trocr-tiny", "ppocr-v6"])
def test_a_loaded_model_is_warm_and_its_rows_are_free(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = PpocrRecognizer if name == "ppocr-v6" else TrocrRecognizer
    delivered: list[str] = []

    def step(self: Recognizer) -> Mapping[str, Recognition]:
        ended = real(self)
        delivered.extend(ended)
        return ended

    real: Callable[[Recognizer], Mapping[str, Recognition]] = kind.step  # type: ignore[assignment]  # of either class
    monkeypatch.setattr(kind, "step", step)
    recognizer = load_recognizer(name, on_cpu())
    assert delivered == [name]
    assert recognizer.step() == {}


def test_a_model_of_another_family_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="not of the TrOCR family: it holds a bert model"):
        load_recognizer(str(tmp_path), on_cpu())


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_path_that_is_not_there_is_never_asked_of_the_hub(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="no folder"):
        load_recognizer(name, on_cpu())


def test_a_misspelt_bundled_model_is_never_asked_of_the_hub() -> None:
    with pytest.raises(ModelUnavailable, match="no model trocr-tny in"):
        load_recognizer("trocr-tny", on_cpu())


def test_a_name_that_nothing_can_have_says_where_it_was_looked_for() -> None:
    with pytest.raises(ModelUnavailable, match="no folder, no bundled model"):
        load_recognizer("a/b/c", on_cpu())


def test_a_hub_model_without_network_or_cache_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("core.hub.snapshot_download", unreachable)
    with pytest.raises(ModelUnavailable, match="hub cannot be reached"):
        load_recognizer("microsoft/trocr-small-handwritten", on_cpu())


def test_a_hub_model_carries_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def cached(repository: str, *, revision: str | None, **_: object) -> str:
        asked.append((repository, revision))
        return str(folder)

    folder = tmp_path / "0123abcd"
    copytree(BUNDLED, folder)
    monkeypatch.setattr("core.hub.snapshot_download", cached)
    card = load_recognizer("someone/fine-tune@v2", on_cpu()).card
    assert (card.name, card.revision, asked) == ("someone/fine-tune@v2", "0123abcd", [("someone/fine-tune", "v2")])


def test_a_wanted_device_that_is_not_there_is_no_reason_to_take_another() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
        return
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ModelUnavailable, match="no CUDA device"):
        choose_device("cuda")


def test_a_gpu_that_pytorch_cannot_use_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with capture_logs() as before:
        choose_device("auto", nvidia_driver=tmp_path / "version")
    (tmp_path / "version").touch()
    with capture_logs() as after:
        choose_device("auto", nvidia_driver=tmp_path / "version")
    assert not before
    (warning,) = after
    assert "PyTorch cannot use it: running on the CPU" in warning["event"]


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", torch.bfloat16),
        ("flags\t\t: fpu amx_bf16", torch.bfloat16),
        ("Features\t: fp asimd bf16", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f", torch.float32),
        ("", torch.float32),
    ],
)
def test_bfloat16_is_taken_where_the_processor_multiplies_in_it(
    tmp_path: Path, cpuinfo: str, dtype: torch.dtype
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{cpuinfo}\n", encoding="ascii")
    assert choose_dtype("auto", torch.device("cpu"), cpuinfo=tmp_path / "cpuinfo") is dtype
    assert choose_dtype("float16", torch.device("cpu"), cpuinfo=tmp_path / "cpuinfo") is torch.float16


def test_a_machine_that_says_nothing_of_its_processor_computes_in_float32(tmp_path: Path) -> None:
    assert choose_dtype("auto", torch.device("cpu"), cpuinfo=tmp_path / "none") is torch.float32


def test_wishes_of_a_checkpoint_that_are_not_followed_are_warned_of(tmp_path: Path) -> None:
    save_random_model(tmp_path, Shape(generation={"forced_bos_token_id": 7}))
    with capture_logs() as logs:
        load_trocr(tmp_path, name="random", device="cpu", dtype="float32", rows=2)
    assert [entry["unheeded"] for entry in logs if "unheeded" in entry] == [["forced_bos_token_id"]]
