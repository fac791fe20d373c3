"""PP-OCRv6's recognizer on real lines."""

from __future__ import annotations

from math import exp, fsum

import numpy as np
import pytest

from core.transcript import Flag
from tests.real_lines import real_lines, transcriptions
from worker.ppocr import PpocrRecognizer
from worker.recognizer import LinePixels, LineRequest, Recognition


@pytest.fixture(scope="module")
def recognizer() -> PpocrRecognizer:
    return PpocrRecognizer()


def read(
    recognizer: PpocrRecognizer,
    pixels: LinePixels,
    max_new_tokens: int | None = None,
    top_logprobs: int | None = None,
) -> Recognition:
    request = LineRequest(pixels=pixels, max_new_tokens=max_new_tokens, top_logprobs=top_logprobs)
    recognizer.admit({"line": request})
    return recognizer.step()["line"]


@pytest.mark.parametrize("name", ["line.jpg", "stanford_SC0033B_s4_b01_f14_i090_010.webp"])
def test_clear_hands_and_typewriters_are_read_to_the_letter(recognizer: PpocrRecognizer, name: str) -> None:
    recognition = read(recognizer, real_lines()[name])
    assert recognition.text == transcriptions()[name]
    assert recognition.flags == set()


def test_a_line_reads_the_same_alone_and_among_others(recognizer: PpocrRecognizer) -> None:
    lines = real_lines()
    alone = {name: read(recognizer, pixels) for name, pixels in lines.items()}
    names = list(lines)
    for start in range(0, len(names), recognizer.rows):
        group = names[start : start + recognizer.rows]
        recognizer.admit({name: LineRequest(pixels=lines[name]) for name in group})
        assert recognizer.step() == {name: alone[name] for name in group}


def test_the_words_make_up_the_text_and_the_tokens_its_confidence(recognizer: PpocrRecognizer) -> None:
    for pixels in real_lines().values():
        recognition = read(recognizer, pixels)
        assert [word.text for word in recognition.words] == recognition.text.split()
        assert all(word.confidence is not None and 0 < word.confidence <= 1 for word in recognition.words)
        mean = fsum(recognition.token_logprobs) / len(recognition.tokens)
        assert recognition.confidence == pytest.approx(exp(mean))


def test_a_line_is_read_as_far_as_asked(recognizer: PpocrRecognizer) -> None:
    pixels = real_lines()["line.jpg"]
    whole = read(recognizer, pixels)
    cut = read(recognizer, pixels, max_new_tokens=5)
    assert cut.tokens == whole.tokens[:5]
    assert whole.text.startswith(cut.text)
    assert cut.flags == {Flag.TRUNCATED}
    assert read(recognizer, pixels, max_new_tokens=len(whole.tokens)) == whole


def test_the_pieces_make_up_the_text_and_tell_what_else_was_likely(recognizer: PpocrRecognizer) -> None:
    for pixels in real_lines().values():
        recognition = read(recognizer, pixels, top_logprobs=3)
        assert recognition.pieces is not None
        assert "".join(piece.text for piece in recognition.pieces) == recognition.text
        assert [piece.logprob for piece in recognition.pieces] == list(recognition.token_logprobs)
        for piece in recognition.pieces:
            best, *others = piece.alternatives
            assert best.text.strip() in piece.text
            assert best.logprob == pytest.approx(piece.logprob, abs=1e-6)
            assert len(others) == 2 and all(best.logprob >= other.logprob for other in others)


def test_a_line_that_is_read_leaves_its_row(recognizer: PpocrRecognizer) -> None:
    read(recognizer, real_lines()["line.jpg"])
    assert recognizer.step() == {}


def test_a_dropped_line_is_not_delivered(recognizer: PpocrRecognizer) -> None:
    recognizer.admit(dict.fromkeys(("stays", "goes"), LineRequest(pixels=real_lines()["line.jpg"])))
    recognizer.drop({"goes", "unknown"})
    assert list(recognizer.step()) == ["stays"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (48, 100_000)])
def test_a_picture_of_any_shape_is_read_and_not_trusted(recognizer: PpocrRecognizer, shape: tuple[int, int]) -> None:
    recognition = read(recognizer, np.full((*shape, 3), 200, np.uint8))
    assert Flag.LOW_CONFIDENCE in recognition.flags


def test_the_card_names_the_file(recognizer: PpocrRecognizer) -> None:
    card = recognizer.card
    assert (card.name, card.device, card.dtype, len(card.sha256)) == ("ppocr-v6", "cpu", "float32", 64)
    assert card.revision is not None
    assert card.revision.startswith("rapidocr 3.")
