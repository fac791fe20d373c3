"""Real lines, the bundled model, and OpenAI's SDK."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from core.settings import settings
from tests.domain import new_key
from tests.openai_clients import client_of, data_url
from tests.trocr_models import BUNDLED
from tests.waiting import wait_until
from tests.workers import pumped, worker_of
from worker.decoding import DecodingPool
from worker.trocr import TrocrRecognizer, load_trocr

LINE = data_url((Path(__file__).parent.parent / "data" / "line.jpg").read_bytes(), "image/jpeg")


class CountedRecognizer(TrocrRecognizer):
    """Counts the steps that were made."""

    steps = 0

    def step(self) -> Any:
        self.steps += 1
        return super().step()


@pytest.fixture(scope="module")
def recognizer() -> CountedRecognizer:
    loaded = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=4)
    return CountedRecognizer(loaded.checkpoint, rows=4)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodingPool]:
    pool = DecodingPool(processes=1, timeout_s=20, memory_bytes=settings().decode_memory_bytes)
    yield pool
    pool.close()


@pytest.fixture
def client(address: str, recognizer: CountedRecognizer, decoder: DecodingPool) -> Iterator[openai.OpenAI]:
    recognizer.steps = 0
    with (
        worker_of(recognizer, decoder) as transcription,
        pumped(transcription),
        client_of(address, new_key()) as client,
    ):
        yield client


def ask(client: openai.OpenAI, **more: Any) -> Any:
    content = [{"type": "image_url", "image_url": {"url": LINE}}]
    return client.chat.completions.create(model="fake", messages=[{"role": "user", "content": content}], **more)  # type: ignore[list-item,misc]


def test_logprobs_are_those_of_the_text_and_make_up_its_confidence(client: openai.OpenAI) -> None:
    completion = ask(client, logprobs=True, top_logprobs=3)
    (choice,) = completion.choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == choice.message.content
    for token in tokens:
        best, second, third = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, pytest.approx(token.logprob, abs=1e-5))
        assert best.logprob >= second.logprob >= third.logprob
    assert completion.usage.completion_tokens == len(tokens) + 1  # the end token
    (line,) = completion.ocr["lines"]
    mean_without_end = math.exp(math.fsum(token.logprob for token in tokens) / len(tokens))
    assert line["confidence"] == pytest.approx(mean_without_end, abs=0.02)


def test_top_logprobs_may_be_none_at_all(client: openai.OpenAI) -> None:
    (choice,) = ask(client, logprobs=True).choices
    assert all(token.top_logprobs == [] for token in choice.logprobs.content)


def test_a_token_limit_is_kept_and_told(client: openai.OpenAI) -> None:
    whole = ask(client)
    cut = ask(client, max_completion_tokens=7, logprobs=True)
    assert (whole.choices[0].finish_reason, cut.choices[0].finish_reason) == ("stop", "length")
    assert cut.usage.completion_tokens == len(cut.choices[0].logprobs.content) == 7
    assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)
    assert "truncated" in cut.ocr["lines"][0]["flags"]


def test_responses_have_the_same_logprobs_and_tell_when_they_are_cut(client: openai.OpenAI) -> None:
    tokens = ask(client, logprobs=True, top_logprobs=1).choices[0].logprobs.content
    lines: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": LINE, "detail": "auto"}]}]
    response: Any = client.responses.create(
        model="fake", input=lines, include=["message.output_text.logprobs"], top_logprobs=1
    )
    (text,) = response.output[0].content
    assert [(one.token, one.logprob) for one in text.logprobs] == [(one.token, one.logprob) for one in tokens]
    cut = client.responses.create(model="fake", input=lines, max_output_tokens=7)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert (cut.incomplete_details.reason, len(cut.output_text)) == ("max_output_tokens", 7)


def test_a_stream_begins_before_half_of_the_steps_are_made(
    client: openai.OpenAI, recognizer: CountedRecognizer
) -> None:
    stream = ask(client, stream=True, logprobs=True, stream_options={"include_usage": True})
    steps_at_first, pieces = 0, []
    tokens: list[str] = []
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            steps_at_first = steps_at_first or recognizer.steps
            pieces.append(chunk.choices[0].delta.content)
        if chunk.choices and chunk.choices[0].logprobs:
            tokens += [token.token for token in chunk.choices[0].logprobs.content]
    text = "".join(pieces)
    wait_until(lambda: recognizer.steps >= chunk.usage.completion_tokens)
    assert text == "".join(tokens) == ask(client).choices[0].message.content
    assert len(pieces) > 4
    assert 0 < steps_at_first < chunk.usage.completion_tokens / 2


def test_beams_settle_nothing_before_the_end_so_that_a_stream_tells_the_line_at_once(client: openai.OpenAI) -> None:
    stream = ask(client, stream=True, logprobs=True, extra_body={"beams": 5})
    chunks = [chunk.choices[0] for chunk in stream]
    pieces = [chunk.delta.content for chunk in chunks if chunk.delta.content]
    tokens = [token.token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert len(pieces) == 1
    assert "".join(tokens) == pieces[0] == ask(client, extra_body={"beams": 5}).choices[0].message.content
