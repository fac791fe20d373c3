"""The same tokens as transformers, whatever the checkpoint's build, and in whatever company a line is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import DeiTModel

from tests.trocr_models import ENDS, Shape, generated, read_all, save_random_model, some_lines
from worker.trocr import TrocrRecognizer, load_trocr

LIMIT = 24

SHAPES = {
    "small": Shape(
        encoder=DeiTModel,
        image_size=384,
        decoder={"activation_function": "relu", "scale_embedding": True, "layernorm_embedding": True},
    ),
    "base": Shape(
        decoder={"activation_function": "gelu", "scale_embedding": False, "d_model": 64, "pad_token_id": 1},
        generation={"decoder_start_token_id": 2, "pad_token_id": 1},
    ),
    "large-printed": Shape(
        decoder={
            "activation_function": "relu",
            "use_learned_position_embeddings": False,
            "layernorm_embedding": False,
            "scale_embedding": True,
        },
    ),
    "started by padding": Shape(
        decoder={"use_learned_position_embeddings": False, "pad_token_id": 5},
        generation={"decoder_start_token_id": 5, "eos_token_id": [11, *ENDS], "pad_token_id": 5},
    ),
    "tied, projected, other ids": Shape(
        decoder={"tie_word_embeddings": True, "cross_attention_hidden_size": None, "pad_token_id": 9},
        generation={"decoder_start_token_id": 0, "eos_token_id": [7, *ENDS], "pad_token_id": 9},
    ),
    "without rules": Shape(generation={"no_repeat_ngram_size": None}),
    "with rules": Shape(generation={"no_repeat_ngram_size": 3, "repetition_penalty": 1.3}),
}


@pytest.fixture(scope="module", params=SHAPES)
def recognizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrocrRecognizer:
    folder: Path = tmp_path_factory.mktemp("model")
    save_random_model(folder, SHAPES[request.param])
    return load_trocr(folder, name="random", device="cpu", dtype="float32", rows=4, max_new_tokens=LIMIT)


@pytest.mark.parametrize(
    ("at_once", "steps_between"),
    [
        (1, LIMIT),  # alone
        (4, 0),  # all rows filled at once
        (1, 3),  # joining lines that are being read
        (2, 7),
    ],
)
def test_tokens_and_confidence_are_those_of_transformers(
    recognizer: TrocrRecognizer, at_once: int, steps_between: int
) -> None:
    lines = some_lines(8)
    expected = generated(recognizer, lines, LIMIT)
    read = read_all(recognizer, lines, at_once=at_once, steps_between=steps_between)
    assert {key: tokens for key, (tokens, _) in read.items()} == {key: line.tokens for key, line in expected.items()}
    for key, (_, confidence) in read.items():
        assert confidence == pytest.approx(expected[key].confidence, abs=1e-4)


def test_the_random_models_tell_lines_apart(recognizer: TrocrRecognizer) -> None:
    read = read_all(recognizer, some_lines(8), at_once=4)
    assert len({tokens for tokens, _ in read.values()}) > 4
