"""What a GPU does differently, on the CPU: steps made ahead of the host, and pictures resized by the device."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from structlog.testing import capture_logs
from torch import nn
from torch.nn.functional import embedding, linear
from transformers import DeiTConfig, DeiTModel, TrOCRConfig, TrOCRForCausalLM, ViTConfig, ViTModel

from tests.real_lines import real_lines
from tests.trocr_models import (
    BUNDLED,
    Shape,
    bundled_recognizer,
    generated,
    read_all,
    save_random_model,
    some_lines,
    two_threads,
)
from worker.recognizer import DeviceLost, LineRequest, ModelUnavailable, Recognition, RecognizerOutOfMemory
from worker.trocr import TrocrRecognizer, find_checkpoint, load_trocr
from worker.trocr_decoder import DecoderRows, _is_small
from worker.trocr_encoder import CpuEncoder
from worker.trocr_errors import errors_named
from worker.trocr_graphs import FixedShapes, powers_of_two
from worker.trocr_openvino import ConvertedModule, openvino_computes
from worker.trocr_pixels import DevicePixels
from worker.trocr_resize import FILTERS, Weights, resized
from worker.trocr_vit import VitEncoder

LIMIT = 24


def random_recognizer(folder: Path, shape: Shape) -> TrocrRecognizer:
    save_random_model(folder, shape)
    return load_trocr(folder, name="random", device="cpu", dtype="float32", rows=4, max_new_tokens=LIMIT)


@pytest.mark.parametrize("rules", [None, 2])
@pytest.mark.parametrize(("at_once", "steps_between"), [(1, 3), (4, 0)])
def test_a_step_ahead_changes_no_token(tmp_path: Path, rules: int | None, at_once: int, steps_between: int) -> None:
    checkpoint = random_recognizer(tmp_path, Shape(generation={"no_repeat_ngram_size": rules})).checkpoint
    recognizer = TrocrRecognizer(checkpoint, rows=4, max_new_tokens=LIMIT, steps_ahead=1)
    lines = some_lines(8)
    expected = generated(recognizer, lines, LIMIT)
    read = read_all(recognizer, lines, at_once=at_once, steps_between=steps_between)
    assert {key: tokens for key, (tokens, _) in read.items()} == {key: line.tokens for key, line in expected.items()}


def test_beams_and_greedy_lines_share_steps_made_ahead(tmp_path: Path) -> None:
    wishes = Shape(generation={"no_repeat_ngram_size": None})
    checkpoint = random_recognizer(tmp_path, wishes).checkpoint
    recognizer = TrocrRecognizer(checkpoint, rows=8, max_new_tokens=LIMIT, steps_ahead=1)
    lines = some_lines(3)
    greedy, beams, late = lines
    recognizer.admit({greedy: LineRequest(pixels=lines[greedy], top_logprobs=2)})
    read = dict(recognizer.step())
    recognizer.admit({beams: LineRequest(pixels=lines[beams], beams=3)})
    read |= recognizer.step()
    recognizer.admit({late: LineRequest(pixels=lines[late])})
    while len(read) < 3:
        read |= recognizer.step()
    expected = generated(recognizer, lines, LIMIT) | generated(recognizer, {beams: lines[beams]}, LIMIT, beams=3)
    assert {key: recognition.tokens for key, recognition in read.items()} == {
        key: line.tokens for key, line in expected.items()
    }


@pytest.mark.parametrize("steps", range(2, 6))
def test_a_line_that_ends_as_beams_join_takes_no_further_token(tmp_path: Path, steps: int) -> None:
    wishes = Shape(generation={"no_repeat_ngram_size": None})
    checkpoint = random_recognizer(tmp_path, wishes).checkpoint
    recognizer = TrocrRecognizer(checkpoint, rows=8, max_new_tokens=LIMIT, steps_ahead=1)
    lines = some_lines(2)
    greedy, beams = lines
    recognizer.admit({greedy: LineRequest(pixels=lines[greedy], max_new_tokens=steps)})
    read: dict[str, Recognition] = {}
    for _ in range(steps):
        read |= recognizer.step()
    assert read == {}  # its last token is on its way
    recognizer.admit({beams: LineRequest(pixels=lines[beams], beams=3)})
    read |= recognizer.step()
    assert read[greedy].tokens == generated(recognizer, {greedy: lines[greedy]}, steps)[greedy].tokens


@pytest.mark.parametrize("most_values", [1, 2**26])
@pytest.mark.parametrize("encoder", [ViTModel, DeiTModel])
def test_pictures_resized_by_the_device_are_those_of_the_processor(
    tmp_path: Path, encoder: type[ViTModel | DeiTModel], most_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.trocr_pixels._MOST_VALUES", most_values)
    checkpoint = random_recognizer(tmp_path, Shape(encoder=encoder, image_size=384)).checkpoint
    pixels = DevicePixels.of(checkpoint)
    assert pixels is not None
    lines = [*real_lines().values(), *some_lines(4).values(), np.zeros((1, 3000, 3), np.uint8)]
    assert torch.allclose(pixels.preprocessed(lines), checkpoint.preprocessed(lines), atol=1e-6)


@pytest.mark.parametrize("resampling", FILTERS)
def test_levels_are_those_of_pillow(resampling: Image.Resampling) -> None:
    random = np.random.default_rng(5)
    lengths = [1, 2, 47, 48, 64, 96, 100, 700]
    lines = [random.integers(0, 256, length, np.uint8) for length in lengths]
    padded = torch.full((len(lines), max(lengths), 1), 255.0)
    for place, line in zip(padded, lines, strict=True):
        place[: len(line), 0] = torch.from_numpy(line)
    weights = Weights.of(torch.tensor(lengths), 48, FILTERS[resampling], longest=max(lengths))
    read = resized(padded, weights)
    for levels, line in zip(read[:, :, 0], lines, strict=True):
        assert levels.tolist() == list(Image.fromarray(line[None]).resize((48, 1), resampling).tobytes())


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize(("encoder", "config"), [(ViTModel, ViTConfig), (DeiTModel, DeiTConfig)])
def test_one_product_for_queries_keys_and_values_changes_nothing(encoder: Any, config: Any, qkv_bias: bool) -> None:
    torch.manual_seed(5)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64}
    model = encoder(config(**sizes, qkv_bias=qkv_bias)).eval()
    pixel_values = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        before = model(pixel_values=pixel_values).last_hidden_state
        joined = VitEncoder(model)(pixel_values)
        after = model(pixel_values=pixel_values).last_hidden_state
    assert torch.allclose(joined, before, atol=1e-5)
    assert torch.equal(after, before)


@pytest.mark.parametrize("openvino", [False, True])
@pytest.mark.parametrize("encoder", [ViTModel, DeiTModel])
def test_in_bfloat16_lines_are_encoded_more_closely_than_by_transformers(
    tmp_path: Path, encoder: type[ViTModel | DeiTModel], openvino: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_random_model(tmp_path, Shape(encoder=encoder))
    exact = find_checkpoint(tmp_path, name="random", device="cpu", dtype="float32")
    monkeypatch.setattr("worker.trocr_checkpoint.openvino_computes", lambda *_: openvino)
    small = find_checkpoint(tmp_path, name="random", device="cpu", dtype="bfloat16")
    lines = list(some_lines(6).values())
    with torch.inference_mode(), two_threads():
        expected = CpuEncoder(exact, rows=4).encoded(lines)
        rounded: Any = deepcopy(exact.model.encoder).bfloat16()
        theirs = rounded(pixel_values=exact.preprocessed(lines).bfloat16()).last_hidden_state.float()
        encode = CpuEncoder(small, rows=4)
        ours = encode.encoded(lines)
        alone = torch.cat([encode.encoded([line]) for line in lines])
    assert (ours - expected).square().mean() < 0.9 * (theirs - expected).square().mean()
    assert torch.equal(ours, alone)


@pytest.mark.parametrize(
    ("small", "of_layers", "of_head"), [("both", 1, 1), ("head", 2, 1), ("layers", 1, 2), ("none", 2, 2)]
)
def test_small_layers_and_small_heads_are_computed_on_one_core(
    small: str, of_layers: int, of_head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_small(part: nn.Module) -> bool:
        return small in ("both", "layers" if isinstance(part, nn.ModuleList) else "head")

    monkeypatch.setattr("worker.trocr_decoder._is_small", is_small)
    seen: dict[str, int] = {}

    def embedding_seen(*arguments: Any) -> torch.Tensor:
        seen["layers"] = torch.get_num_threads()
        return embedding(*arguments)

    def scores_seen(rows: DecoderRows, hidden: torch.Tensor) -> torch.Tensor:
        seen["head"] = torch.get_num_threads()
        return scores(rows, hidden)

    scores = DecoderRows._scores
    monkeypatch.setattr("worker.trocr_decoder.embedding", embedding_seen)
    monkeypatch.setattr(DecoderRows, "_scores", scores_seen)
    with two_threads():
        read_all(bundled_recognizer(LIMIT), some_lines(2), at_once=2)
        assert (seen, torch.get_num_threads()) == ({"layers": of_layers, "head": of_head}, 2)


def test_the_bundled_model_is_small_in_all_parts_and_trocr_small_in_its_layers() -> None:
    small = TrOCRForCausalLM(
        TrOCRConfig(d_model=256, decoder_layers=6, decoder_attention_heads=8, decoder_ffn_dim=1024, vocab_size=64_044)
    )
    bundled = bundled_recognizer(LIMIT).checkpoint.decoder
    parts = [part for model in (bundled, small) for part in (model.model.decoder.layers, model.output_projection)]
    assert [_is_small(part) for part in parts] == [True, True, True, False]


def test_a_thread_that_begins_during_another_models_step_encodes_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_threads(), ThreadPoolExecutor(1) as pool:
        stepping, beginning = bundled_recognizer(LIMIT), bundled_recognizer(LIMIT)
        seen: set[int] = set()

        def linear_seen(*arguments: Any) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return linear(*arguments)

        def embedding_seen(*arguments: Any) -> torch.Tensor:
            monkeypatch.setattr("worker.trocr_decoder.embedding", embedding)
            monkeypatch.setattr("worker.trocr_vit.linear", linear_seen)
            pool.submit(read_all, beginning, some_lines(1), at_once=1).result()
            return embedding(*arguments)

        monkeypatch.setattr("worker.trocr_decoder.embedding", embedding_seen)
        read_all(stepping, some_lines(1), at_once=1)
        assert seen == {2}


def test_a_module_in_openvino_computes_the_same_for_each_thread() -> None:
    torch.manual_seed(5)
    module = nn.Linear(48, 300)
    compiled = ConvertedModule(module, (-1, 48)).compiled(cores=2, at_once=2, number_format="f32")
    arguments = [torch.randn(length, 48) for length in (1, 4, 2, 1, 7, 3)]
    with torch.inference_mode(), ThreadPoolExecutor(2) as pool:
        computed = list(pool.map(lambda argument: compiled(argument)[0].clone(), arguments))
        assert all(map(torch.allclose, computed, map(module, arguments), repeat(1e-4), repeat(1e-5)))


def test_signals_are_heard_when_models_in_openvino_have_gone() -> None:
    # In a process of its own: a signal that is heard on a freed stack ends it.
    program = """
import gc, signal, torch
from worker.trocr_openvino import ConvertedModule

modules = [ConvertedModule(torch.nn.Linear(4, 4), (-1, 4)).compiled(cores=1) for _ in range(2)]
while modules:
    del modules[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


def test_a_module_in_openvino_keeps_the_weights_that_it_computes_with() -> None:
    module = nn.Linear(4, 4)
    weights = weakref.ref(module.weight)
    compiled = ConvertedModule(module, (-1, 4)).compiled(cores=1)
    del module
    gc.collect()
    assert weights() is not None
    del compiled
    gc.collect()
    assert weights() is None


def test_the_encoder_is_converted_once_for_all_its_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversions: list[Any] = []
    monkeypatch.setattr(
        "worker.trocr_openvino._converted", lambda *module_and_shape: conversions.append(module_and_shape)
    )
    monkeypatch.setattr("worker.trocr_openvino._core", lambda: SimpleNamespace(compile_model=lambda *_: None))
    save_random_model(tmp_path, Shape())
    with two_threads():
        checkpoint = find_checkpoint(tmp_path, name="random", device="cpu", dtype="float32")
        CpuEncoder(replace(checkpoint, in_openvino=True), rows=4)
    assert len(conversions) == 1


@pytest.fixture
def with_openvino(monkeypatch: pytest.MonkeyPatch) -> TrocrRecognizer:
    monkeypatch.setattr("worker.trocr_checkpoint.openvino_computes", lambda *_: True)
    return load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="bfloat16", rows=8)


def test_with_openvino_most_real_lines_read_as_in_float32(
    with_openvino: TrocrRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.trocr_checkpoint.openvino_computes", lambda *_: False)
    exact = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=8)
    ours, expected = (read_all(recognizer, real_lines(), at_once=4) for recognizer in (with_openvino, exact))
    assert sum(ours[key][0] == expected[key][0] for key in expected) > 0.7 * len(expected)


def test_with_openvino_a_line_reads_the_same_whatever_others_wish(with_openvino: TrocrRecognizer) -> None:
    wishes: list[dict[str, int]] = [{"beams": 3}, {"top_logprobs": 2}, {}]
    requests = {
        key: LineRequest(pixels=pixels, max_new_tokens=LIMIT, **wish)
        for (key, pixels), wish in zip(real_lines().items(), wishes, strict=False)
    }

    def recognitions(*keys: str) -> dict[str, Recognition]:
        with_openvino.admit({key: requests[key] for key in keys})
        read: dict[str, Recognition] = {}
        while len(read) < len(keys):
            read |= with_openvino.step()
        return read

    together = recognitions(*requests)
    for key in requests:
        alone = recognitions(key)[key]
        assert together[key].tokens == alone.tokens
        assert together[key].confidence == pytest.approx(alone.confidence, abs=1e-4)


@pytest.mark.parametrize(
    ("multiplies", "machine", "installed", "computes"),
    [
        (True, "x86_64", True, True),
        (True, "x86_64", False, False),
        (True, "aarch64", False, False),
        (False, "x86_64", False, False),
    ],
)
def test_openvino_computes_where_it_is_faster_and_is_missed_nowhere_else(
    multiplies: bool, machine: str, installed: bool, computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.trocr_openvino.cpu_multiplies_bfloat16", lambda: multiplies)
    monkeypatch.setattr("worker.trocr_openvino.platform.machine", lambda: machine)
    monkeypatch.setattr("worker.trocr_openvino.find_spec", lambda _: installed or None)
    encoder = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1))
    with capture_logs() as logs:
        assert openvino_computes(encoder, torch.bfloat16) is computes
        assert not openvino_computes(encoder, torch.float32)
        assert not openvino_computes(nn.Linear(4, 4), torch.bfloat16)
    is_missed = multiplies and machine == "x86_64" and not installed
    assert len(logs) == is_missed


def test_without_openvino_pytorch_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.trocr_openvino.find_spec", lambda _: None)
    recognizer = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="bfloat16", rows=4)
    assert read_all(recognizer, real_lines(), at_once=4).keys() == real_lines().keys()


def test_an_openvino_that_cannot_be_loaded_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelUnavailable, match="OpenVINO cannot compute this model"):
        ConvertedModule(nn.Linear(4, 4), (-1, 4))


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (RuntimeError("Failed to allocate 9469952 bytes of memory"), RecognizerOutOfMemory),
        (RuntimeError("can't alloc"), RecognizerOutOfMemory),
        ([np.zeros((1, 4), np.float32)], RecognizerOutOfMemory),
        (RuntimeError("std::future_error: Broken promise"), DeviceLost),
    ],
)
def test_what_openvino_answers_without_memory_is_known(
    answer: Exception | list[Any], meaning: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def infer(*_: object, **__: object) -> dict[int, Any]:
        if isinstance(answer, Exception):
            raise answer
        return dict(enumerate(answer))

    compiled = ConvertedModule(nn.Linear(4, 4), (-1, 4)).compiled(cores=1)
    monkeypatch.setattr(compiled, "_of_thread", SimpleNamespace(request=SimpleNamespace(infer=infer)))
    with pytest.raises(meaning), errors_named():
        compiled(torch.zeros(3, 4))


def test_a_line_that_gives_no_numbers_leaves_its_rows_clean(tmp_path: Path) -> None:
    recognizer = random_recognizer(tmp_path, Shape())
    torch.manual_seed(5)
    with torch.inference_mode():
        rows = DecoderRows(
            recognizer.checkpoint.decoder, rows=4, positions=LIMIT, source_length=17, start_token=2, openvino=False
        )
        bad = torch.full((1, 17, 48), torch.nan)
        rows.join(torch.cat([torch.randn(1, 17, 48), bad, bad, torch.randn(1, 17, 48)]), [1, 1, 1, 1])
        for _ in range(4):
            rows.step()
        rows.leave(1)
        rows.leave(2)
        rows.join(torch.randn(2, 17, 48), [1, 1])
        assert rows.step().scores.isfinite().all()


def test_threads_that_encode_change_those_of_nobody_else(tmp_path: Path) -> None:
    with two_threads():
        encoder = CpuEncoder(random_recognizer(tmp_path, Shape()).checkpoint, rows=4)
        with torch.inference_mode(), ThreadPoolExecutor(1) as device:
            encoder.encoded(list(some_lines(2).values()))
            assert device.submit(torch.get_num_threads).result() == 2


def test_a_processor_that_keeps_the_aspect_ratio_is_left_to_itself() -> None:
    recognizer = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32")
    assert DevicePixels.of(recognizer.checkpoint) is None


def test_without_graphs_sizes_are_as_they_are() -> None:
    shapes = FixedShapes(lambda rows, length: (rows, length), sizes=((4,), (16,)), device=torch.device("cpu"))
    assert shapes(3, 5) == (3, 5)


@pytest.mark.parametrize(
    ("least", "most", "sizes"), [(1, 16, [1, 2, 4, 8, 16]), (1, 12, [1, 2, 4, 8, 12]), (16, 10, [10]), (1, 1, [1])]
)
def test_sizes_double_up_to_the_largest(least: int, most: int, sizes: list[int]) -> None:
    assert powers_of_two(least, most) == sizes


def capture_that_ran_out() -> None:
    try:
        raise torch.OutOfMemoryError("no room")
    finally:
        raise torch.AcceleratorError("CUDA error: the recording was given up")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("none left"),
        None,
    ],
)
def test_too_little_memory_is_known_in_all_its_disguises(error: Exception | None) -> None:
    with pytest.raises(RecognizerOutOfMemory), errors_named():
        if error is None:
            capture_that_ran_out()
        else:
            raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), errors_named():
        raise RuntimeError("shapes do not match")


def test_a_device_without_room_for_the_graphs_is_a_matter_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr("worker.trocr_decoder.FixedShapes", fail)
    with pytest.raises(ModelUnavailable, match="set INKQUEUE_ROWS lower"):
        random_recognizer(tmp_path, Shape())


def test_an_error_after_which_the_device_answers_no_more_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    recognizer = random_recognizer(tmp_path, Shape())
    recognizer.admit({key: LineRequest(pixels=pixels) for key, pixels in some_lines(1).items()})
    monkeypatch.setattr(recognizer._decoder, "step", fail)
    with pytest.raises(DeviceLost, match="illegal memory access"):
        recognizer.step()


def test_a_device_that_is_lost_as_rows_are_freed_is_told_apart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: int) -> None:
        raise torch.AcceleratorError(f"an illegal memory access was encountered at {row}")

    recognizer = random_recognizer(tmp_path, Shape())
    recognizer.admit({key: LineRequest(pixels=pixels) for key, pixels in some_lines(2).items()})
    monkeypatch.setattr(recognizer._decoder, "leave", fail)
    with pytest.raises(DeviceLost, match="illegal memory access"):
        recognizer.drop(some_lines(1))
    assert recognizer.step() == {}
