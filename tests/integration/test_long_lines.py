"""Real lines side by side: too wide for the bundled model, which reads them in parts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.fakes import SilentObserver
from tests.real_lines import real_lines, transcriptions
from tests.trocr_models import BUNDLED
from training.error_rates import error_rates
from worker.batcher import QueuedLine
from worker.line_parts import parts_of
from worker.long_lines import LongLines
from worker.recognizer import LinePixels, LineRequest, Recognition
from worker.trocr import TrocrRecognizer, load_trocr

NAMES = ["line.jpg", "copiste_imp_wikitexte_0085_003.webp", "copiste_imp_wikitexte_0183_017.webp"]
HEIGHT = 64


@pytest.fixture(scope="module")
def recognizer() -> TrocrRecognizer:
    return load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=4)


def side_by_side() -> LinePixels:
    gap = np.full((HEIGHT, HEIGHT // 3, 3), 255, np.uint8)
    strips = [gap]
    for name in NAMES:
        image = Image.fromarray(real_lines()[name])
        strips += [np.asarray(image.resize((image.width * HEIGHT // image.height, HEIGHT))), gap]
    return np.concatenate(strips, axis=1)


def read(recognizer: TrocrRecognizer, pixels: LinePixels) -> Recognition:
    ended: list[Recognition] = []
    lines = LongLines(
        recognizer,
        on_start=lambda _: None,
        on_settled=lambda _, __: None,
        on_read=lambda _, recognition: ended.append(recognition),
        on_failed=lambda _, error: pytest.fail(repr(error)),
        observer=SilentObserver(),
    )
    lines.submit(
        QueuedLine(
            key="long", request=LineRequest(pixels=pixels, top_logprobs=0), priority=1, job_id="job", alone=False
        )
    )
    while not ended:
        lines.batcher.turn()
    return ended[0]


def test_a_long_line_reads_in_parts_far_better_than_squeezed(recognizer: TrocrRecognizer) -> None:
    pixels = side_by_side()
    assert len(parts_of(pixels, recognizer.max_aspect_ratio)) > 1
    text = [" ".join(transcriptions()[name] for name in NAMES)]
    in_parts = read(recognizer, pixels)
    recognizer.admit({"squeezed": LineRequest(pixels=pixels)})
    while not (squeezed := recognizer.step()):
        pass
    assert error_rates(text, [in_parts.text]).cer < error_rates(text, [squeezed["squeezed"].text]).cer / 2


def test_the_tokens_of_the_whole_make_up_its_text(recognizer: TrocrRecognizer) -> None:
    recognition = read(recognizer, side_by_side())
    assert recognition.pieces is not None
    assert "".join(piece.text for piece in recognition.pieces) == recognition.text
    without_spaces = recognizer.checkpoint.tokenizer.decode(list(recognition.tokens), skip_special_tokens=True)
    assert str(without_spaces).replace(" ", "") == recognition.text.replace(" ", "")
    assert len(recognition.tokens) == len(recognition.token_logprobs) == len(recognition.pieces) + 1


@pytest.mark.parametrize(("image_size", "limit"), [((16, 640), 40.0), ((48, 960), 20.0), (64, 20.0), ((64, 32), 20.0)])
def test_a_wide_input_takes_what_fits_and_a_square_one_what_lines_usually_are(
    recognizer: TrocrRecognizer, monkeypatch: pytest.MonkeyPatch, image_size: object, limit: float
) -> None:
    monkeypatch.setattr(recognizer.checkpoint.model.encoder.config, "image_size", image_size)
    assert recognizer.max_aspect_ratio == limit
