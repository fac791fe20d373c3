"""Beam search reads what transformers' beam search reads, whatever else is in rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import DeiTModel

from core.transcript import Flag
from tests.real_lines import real_lines
from tests.trocr_models import BUNDLED, Shape, generated, save_random_model, some_lines
from worker.recognizer import LineRequest, Recognition
from worker.trocr import TrocrRecognizer, load_trocr

LIMIT = 24
ROWS = 16

WISHES = {
    "transformers' own": Shape(),
    "as fine-tunes have them": Shape(
        encoder=DeiTModel,
        decoder={"activation_function": "relu", "scale_embedding": True},
        generation={"length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3, "num_beams": 4},
    ),
    "until nothing can be better": Shape(generation={"length_penalty": 0.6, "early_stopping": "never", "num_beams": 4}),
    "shorter is better": Shape(generation={"length_penalty": -0.5, "num_beams": 4}),
    "no rules, one end": Shape(generation={"no_repeat_ngram_size": None, "eos_token_id": 2}),
    "sinusoidal positions": Shape(decoder={"use_learned_position_embeddings": False}),
}


@pytest.fixture(scope="module", params=WISHES)
def recognizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrocrRecognizer:
    folder: Path = tmp_path_factory.mktemp("model")
    save_random_model(folder, WISHES[request.param])
    return load_trocr(folder, name="random", device="cpu", dtype="float32", rows=ROWS, max_new_tokens=LIMIT)


def read(recognizer: TrocrRecognizer, lines: dict[str, LineRequest]) -> dict[str, Recognition]:
    """Read lines that join one by one while others are being read."""
    ended: dict[str, Recognition] = {}
    held = 0
    for key, request in lines.items():
        while held + request.beams > ROWS:
            new = recognizer.step()
            held -= sum(lines[name].beams for name in new)
            ended.update(new)
        recognizer.admit({key: request})
        held += request.beams
        new = recognizer.step()
        held -= sum(lines[name].beams for name in new)
        ended.update(new)
    while len(ended) < len(lines):
        ended.update(recognizer.step())
    return ended


@pytest.mark.parametrize("beams", [2, 4, 10])
def test_a_line_alone_reads_as_with_transformers(recognizer: TrocrRecognizer, beams: int) -> None:
    lines = some_lines(3)
    expected = generated(recognizer, lines, LIMIT, beams=beams)
    for key, pixels in lines.items():
        got = read(recognizer, {key: LineRequest(pixels=pixels, beams=beams)})[key]
        assert got.tokens == expected[key].tokens
        assert got.confidence == pytest.approx(expected[key].confidence, abs=1e-4)


def test_lines_of_different_beams_share_rows(recognizer: TrocrRecognizer) -> None:
    lines, beams = some_lines(8), (1, 3, 1, 5, 2, 10, 1, 4)
    wanted = dict(zip(lines, beams, strict=True))
    expected = {
        key: generated(recognizer, {key: pixels}, LIMIT, beams=wanted[key])[key].tokens for key, pixels in lines.items()
    }
    got = read(recognizer, {key: LineRequest(pixels=pixels, beams=wanted[key]) for key, pixels in lines.items()})
    assert {key: recognition.tokens for key, recognition in got.items()} == expected


def test_a_dropped_line_frees_the_rows_of_all_its_beams(recognizer: TrocrRecognizer) -> None:
    lines = some_lines(3)
    expected = generated(recognizer, lines, LIMIT, beams=5)
    requests = {key: LineRequest(pixels=pixels, beams=5) for key, pixels in lines.items()}
    recognizer.admit(requests)
    recognizer.step()
    dropped, *others = lines
    recognizer.drop({dropped})
    got: dict[str, Recognition] = {}
    while len(got) < 2:
        got.update(recognizer.step())
    assert {key: got[key].tokens for key in others} == {key: expected[key].tokens for key in others}
    assert recognizer.step() == {}


def test_the_bundled_model_reads_real_lines_as_with_transformers() -> None:
    recognizer = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=ROWS)
    lines = dict(list(real_lines().items())[:3])
    expected = generated(recognizer, lines, 110, beams=5)
    got = read(recognizer, {key: LineRequest(pixels=pixels, beams=5) for key, pixels in lines.items()})
    assert {key: recognition.tokens for key, recognition in got.items()} == {
        key: line.tokens for key, line in expected.items()
    }


def test_beams_that_reach_the_limit_say_so(tmp_path: Path) -> None:
    save_random_model(tmp_path, Shape(generation={"eos_token_id": 2}))
    recognizer = load_trocr(tmp_path, name="random", device="cpu", dtype="float32", max_new_tokens=4)
    (line, *_) = some_lines(1).values()
    got = read(recognizer, {"line": LineRequest(pixels=line, beams=3, top_logprobs=2)})["line"]
    assert len(got.tokens) <= 4
    assert (Flag.TRUNCATED in got.flags) == (got.tokens[-1] != 2)
    assert got.pieces is not None
    assert not any(piece.alternatives for piece in got.pieces)
