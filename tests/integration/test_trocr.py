"""The bundled TrOCR-family model on real lines."""

from __future__ import annotations

from dataclasses import replace
from math import exp, fsum

import numpy as np
import pytest

from core.transcript import Flag
from tests.real_lines import real_lines
from tests.trocr_models import BUNDLED, Generated, generated, read_all
from worker.recognizer import LinePixels, LineRequest, Recognition, RecognizerOutOfMemory
from worker.trocr import TrocrRecognizer, load_trocr

LIMIT = 110


@pytest.fixture(scope="module")
def recognizer() -> TrocrRecognizer:
    return load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=4)


@pytest.fixture(scope="module")
def expected(recognizer: TrocrRecognizer) -> dict[str, Generated]:
    return generated(recognizer, real_lines(), LIMIT)


def read(recognizer: TrocrRecognizer, pixels: LinePixels) -> Recognition:
    recognizer.admit({"line": LineRequest(pixels=pixels)})
    while not (ended := recognizer.step()):
        pass
    return ended["line"]


@pytest.mark.parametrize(("at_once", "steps_between"), [(1, LIMIT), (4, 0), (1, 5)])
def test_tokens_and_confidence_are_those_of_transformers(
    recognizer: TrocrRecognizer, expected: dict[str, Generated], at_once: int, steps_between: int
) -> None:
    got = read_all(recognizer, real_lines(), at_once=at_once, steps_between=steps_between)
    assert {key: tokens for key, (tokens, _) in got.items()} == {key: line.tokens for key, line in expected.items()}
    for key, (_, confidence) in got.items():
        assert confidence == pytest.approx(expected[key].confidence, abs=1e-4)


def test_the_text_is_what_the_tokenizer_says(recognizer: TrocrRecognizer) -> None:
    recognition = read(recognizer, real_lines()["line.jpg"])
    assert recognition.text == recognizer.checkpoint.tokenizer.decode(
        list(recognition.tokens), skip_special_tokens=True
    )
    assert [word.text for word in recognition.words] == recognition.text.split()


def test_words_have_the_confidence_of_their_characters_and_the_line_that_of_all(recognizer: TrocrRecognizer) -> None:
    recognition = read(recognizer, real_lines()["line.jpg"])
    logprobs = recognition.token_logprobs
    first = len(recognition.words[0].text)  # this model's tokens are characters
    assert recognition.words[0].confidence == pytest.approx(exp(fsum(logprobs[:first]) / first))
    assert recognition.confidence == pytest.approx(exp(fsum(logprobs) / len(recognition.tokens)))


def test_the_pieces_make_up_the_text_and_tell_what_else_was_likely(recognizer: TrocrRecognizer) -> None:
    pixels = real_lines()["line.jpg"]
    plain = read(recognizer, pixels)
    assert plain.pieces is None
    recognizer.admit({"line": LineRequest(pixels=pixels, top_logprobs=2)})
    while not (ended := recognizer.step()):
        pass
    pieces = ended["line"].pieces
    assert pieces is not None
    assert "".join(piece.text for piece in pieces) == plain.text
    assert [piece.logprob for piece in pieces] == pytest.approx(plain.token_logprobs[:-1])  # without the end token
    for piece in pieces:
        best, second = piece.alternatives
        assert best.text == piece.text
        assert best.logprob == pytest.approx(piece.logprob, abs=1e-5)
        assert second.logprob <= best.logprob


def test_what_is_settled_of_a_text_grows_with_it_and_stays(recognizer: TrocrRecognizer) -> None:
    pixels = real_lines()["line.jpg"]
    recognizer.admit({"line": LineRequest(pixels=pixels), "other": LineRequest(pixels=pixels)})
    seen: list[str] = []
    while not (ended := recognizer.step()):
        seen.append(recognizer.settled({"line", "unknown"})["line"])
    text, steps = ended["line"].text, len(ended["line"].tokens)
    assert all(text.startswith(settled) for settled in seen)
    assert seen == sorted(seen, key=len)
    assert seen[steps // 2 - 1]  # something is told before half of the steps are done
    assert len(set(seen)) > steps // 2


def test_a_short_line_leaves_while_longer_ones_go_on(
    recognizer: TrocrRecognizer, expected: dict[str, Generated]
) -> None:
    length = {key: len(line.tokens) for key, line in expected.items()}
    keys = sorted(length, key=length.__getitem__)[::3]
    recognizer.admit({key: LineRequest(pixels=real_lines()[key]) for key in keys})
    ended_at = {}
    for step in range(1, LIMIT + 1):
        ended_at.update(dict.fromkeys(recognizer.step(), step))
    assert ended_at == {key: length[key] for key in keys}


def test_a_dropped_line_leaves_the_others_as_they_were(
    recognizer: TrocrRecognizer, expected: dict[str, Generated]
) -> None:
    keys = list(expected)[:4]
    recognizer.admit({key: LineRequest(pixels=real_lines()[key]) for key in keys})
    recognizer.step()
    recognizer.drop({keys[0], keys[2], "unknown"})
    got: dict[str, Recognition] = {}
    while len(got) < 2:
        got.update(recognizer.step())
    assert {key: line.tokens for key, line in got.items()} == {key: expected[key].tokens for key in (keys[1], keys[3])}
    assert recognizer.step() == {}


def test_a_line_cut_off_at_the_limit_says_so() -> None:
    recognizer = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", max_new_tokens=5)
    recognition = read(recognizer, real_lines()["line.jpg"])
    assert len(recognition.tokens) == 5
    assert Flag.TRUNCATED in recognition.flags


def test_each_line_is_read_as_far_as_it_asks(recognizer: TrocrRecognizer, expected: dict[str, Generated]) -> None:
    pixels, tokens = real_lines()["line.jpg"], expected["line.jpg"].tokens
    limits = {"short": 3, "as long as the model can": 10_000, "own limit": None}
    recognizer.admit({key: LineRequest(pixels=pixels, max_new_tokens=limit) for key, limit in limits.items()})
    got: dict[str, Recognition] = {}
    while len(got) < len(limits):
        got.update(recognizer.step())
    assert got["short"].tokens == tokens[:3]
    assert Flag.TRUNCATED in got["short"].flags
    assert got["as long as the model can"].tokens == got["own limit"].tokens == tokens


def test_a_line_that_cannot_be_encoded_takes_no_row(recognizer: TrocrRecognizer) -> None:
    with pytest.raises(ValueError):
        recognizer.admit(
            {
                "good": LineRequest(pixels=real_lines()["line.jpg"]),
                "bad": LineRequest(pixels=np.zeros((4, 4), np.uint8)),
            }
        )
    assert recognizer.step() == {}


def test_memory_that_the_host_lacks_is_named_as_the_devices_is(recognizer: TrocrRecognizer) -> None:
    def processor(*_: object, **__: object) -> None:
        raise MemoryError("none left")

    with pytest.raises(RecognizerOutOfMemory, match="none left"):
        TrocrRecognizer(replace(recognizer.checkpoint, image_processor=processor))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 700), (1, 9000), (900, 3), (1, 1)])
def test_pictures_of_odd_shapes_are_read(recognizer: TrocrRecognizer, shape: tuple[int, int]) -> None:
    assert read(recognizer, np.full((*shape, 3), 128, np.uint8)).confidence is not None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_smaller_number_formats_too_a_line_reads_the_same_alone_and_among_others(dtype: str) -> None:
    small = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype=dtype, rows=4)  # type: ignore[arg-type]
    alone = read_all(small, real_lines(), at_once=1, steps_between=LIMIT)
    together = read_all(small, real_lines(), at_once=4)
    assert {key: tokens for key, (tokens, _) in together.items()} == {key: tokens for key, (tokens, _) in alone.items()}
