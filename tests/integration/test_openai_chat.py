"""`client.chat.completions` of OpenAI's SDK, against the API and a worker."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from core import leases
from core.errors import InvalidImage
from core.live_text import LiveText
from core.notices import TEXT_SETTLED
from core.redis_address import redis_client
from core.settings import settings
from tests import image_samples
from tests.domain import MODEL, assert_ledger_balances, new_caller, new_key, png, rows
from tests.fakes import FakeRecognizer
from tests.openai_clients import client_of, data_url
from tests.waiting import wait_until
from tests.workers import Brake, FakeDecoder, FlawedDecoder, pumped, worker_of

LINE = data_url(png())


def image(url: str = LINE) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def messages(*parts: dict[str, Any]) -> Any:
    return [
        {"role": "system", "content": "You read handwriting."},
        {"role": "user", "content": [{"type": "text", "text": "What does it say?"}, *parts]},
    ]


def ask(client: openai.OpenAI, *parts: dict[str, Any], **more: Any) -> ChatCompletion:
    completion = client.chat.completions.create(model=MODEL, messages=messages(*parts or (image(),)), **more)
    assert isinstance(completion, ChatCompletion)
    return completion


def image_ids() -> list[str]:
    return [str(image_id) for (image_id,) in rows("SELECT id FROM images ORDER BY position")]


@pytest.mark.usefixtures("worker")
def test_a_line_is_read_at_interactive_priority_and_charged(client: openai.OpenAI) -> None:
    completion = ask(client, metadata={"box": "12"})
    (image_id,) = image_ids()
    assert completion.choices[0].message.content == f"text of {image_id}"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].logprobs is None
    assert completion.object == "chat.completion"
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == MODEL
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 578
    assert completion.usage.total_tokens == 578 + completion.usage.completion_tokens
    assert completion.usage.to_dict()["ocr"] == {"lines": 1, "credits": 1.5}
    assert rows("SELECT priority, status, caller_metadata FROM jobs") == [(0, "succeeded", {"box": "12"})]
    assert_ledger_balances()


@pytest.mark.usefixtures("worker")
def test_several_images_give_a_row_each_in_order(client: openai.OpenAI) -> None:
    completion = ask(client, *[image()] * 3)
    assert completion.choices[0].message.content == "\n".join(f"text of {image_id}" for image_id in image_ids())
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 3 * 578
    ocr = completion.to_dict()["ocr"]
    assert isinstance(ocr, dict)
    assert [line["confidence"] for line in ocr["lines"]] == [1.0] * 3
    assert rows("SELECT count(*) FROM jobs") == [(1,)]


async def _ask_async(address: str, key: str) -> list[ChatCompletion]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key) as client:
        return await asyncio.gather(
            *(client.chat.completions.create(model=MODEL, messages=messages(image())) for _ in range(10))
        )


@pytest.mark.usefixtures("worker")
def test_the_asynchronous_client_reads_lines_side_by_side(address: str) -> None:
    completions = asyncio.run(_ask_async(address, new_key()))
    texts = {completion.choices[0].message.content for completion in completions}
    assert texts == {f"text of {image_id}" for image_id in image_ids()}
    assert len(texts) == 10


@pytest.mark.usefixtures("worker")
def test_flex_is_read_as_bulk_at_its_price(client: openai.OpenAI) -> None:
    completion = ask(client, service_tier="flex")
    assert completion.service_tier == "flex"
    assert completion.usage is not None
    assert completion.usage.to_dict()["ocr"] == {"lines": 1, "credits": 0.5}
    assert rows("SELECT priority FROM jobs") == [(2,)]


@pytest.mark.usefixtures("worker")
def test_the_answer_has_openais_headers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages(image()))
    assert answer.parse()._request_id == answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert int(answer.headers["x-ratelimit-remaining-requests"]) < int(answer.headers["x-ratelimit-limit-requests"])
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


@pytest.mark.usefixtures("worker")
def test_the_same_idempotency_key_reads_and_charges_once(client: openai.OpenAI) -> None:
    first, second = (ask(client, extra_headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.id == second.id
    assert first.choices == second.choices
    assert rows("SELECT count(*) FROM jobs") == [(1,)]
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        ask(client, image(), image(), extra_headers={"Idempotency-Key": "one"})
    assert refused.value.code == "idempotency_conflict"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7, "top_p": 0.1, "seed": 1, "user": "u", "store": True, "presence_penalty": 1},
        {"n": 1, "tools": [], "response_format": {"type": "text"}, "tool_choice": "none"},
    ],
)
def test_parameters_without_effect_are_taken(client: openai.OpenAI, more: dict[str, Any]) -> None:
    assert str(ask(client, **more).choices[0].message.content).startswith("text of img_")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"n": 2}, "n can only be 1"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"stop": ["a"]}, "stop"),
        ({"top_logprobs": 2}, "needs logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"extra_body": {"tempreature": 1}}, "tempreature"),
        ({"extra_body": {"beams": 11}}, "beams"),
        ({"extra_body": {"beams": 2}, "logprobs": True, "top_logprobs": 2}, "not available with beams"),
    ],
)
def test_parameters_that_would_change_the_answer_are_refused(
    client: openai.OpenAI, more: dict[str, Any], word: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=word):
        ask(client, **more)
    assert rows("SELECT id FROM jobs") == []


def test_a_conversation_without_an_image_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no image"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])


@pytest.mark.parametrize(
    ("url", "error", "code"),
    [
        (data_url(b"hello, world"), openai.APIStatusError, "unsupported_image"),
        (data_url(image_samples.svg()), openai.APIStatusError, "unsupported_image"),
        ("data:image/png;base64,%%%", openai.BadRequestError, "malformed_request"),
        ("http://169.254.169.254/latest/meta-data", openai.UnprocessableEntityError, "url_not_allowed"),
        ("http://127.0.0.1/line.png", openai.UnprocessableEntityError, "url_not_allowed"),
        ("ftp://example.org/line.png", openai.UnprocessableEntityError, "url_not_allowed"),
    ],
)
def test_a_bad_image_is_named(client: openai.OpenAI, url: str, error: type[openai.APIStatusError], code: str) -> None:
    with pytest.raises(error) as refused:
        ask(client, image(), image(url))
    assert refused.value.code == code
    assert refused.value.param == "messages.1.content.2.image_url.url"
    assert rows("SELECT id FROM jobs") == []


def test_a_wrong_key_is_an_authentication_error(address: str) -> None:
    with client_of(address, "ink_wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
        ask(client)
    assert refused.value.code == "invalid_api_key"


def test_an_account_without_credit_is_told_so_once(address: str) -> None:
    new_caller("poor", grant_credits=0)
    with client_of(address, new_key("poor")) as client, pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.response.request.headers.get("x-stainless-retry-count") == "0"


def test_beams_come_in_the_extra_body_at_their_price(client: openai.OpenAI, worker: FakeRecognizer) -> None:
    completion = ask(client, extra_body={"beams": 5})
    assert completion.usage is not None
    assert completion.usage.to_dict()["ocr"] == {"lines": 1, "credits": 4.5}  # 1.5 x (1 + 4 x 0.5)
    assert worker.beams == {image_ids()[0]: 5}


def test_a_model_without_beams_is_not_asked_for_them(client: openai.OpenAI) -> None:
    leases.register([{"name": "ppocr-v6"}])
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(model="ppocr-v6", messages=messages(image()), extra_body={"beams": 2})
    assert (refused.value.code, refused.value.param) == ("beams_not_available", "beams")


@pytest.mark.parametrize(
    ("model", "code"), [("gpt-4o", "model_not_found"), ("microsoft/trocr-base-printed", "model_not_loaded")]
)
def test_a_model_that_is_not_here_is_not_found(client: openai.OpenAI, model: str, code: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=model, messages=messages(image()))
    assert refused.value.code == code


def test_a_picture_whose_pixels_do_not_decode_fails_by_name(client: openai.OpenAI) -> None:
    with (
        worker_of(FakeRecognizer(), FakeDecoder(InvalidImage("truncated"))) as transcription,
        pumped(transcription),
        pytest.raises(openai.UnprocessableEntityError) as refused,
    ):
        ask(client)
    assert (refused.value.code, refused.value.param) == ("invalid_image", "messages.1.content.1.image_url.url")


def test_a_request_that_is_read_in_part_names_the_job_that_has_the_rest(client: openai.OpenAI) -> None:
    with worker_of(FakeRecognizer(), FlawedDecoder()) as transcription, pumped(transcription):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            ask(client, *[image()] * 3)
        assert (refused.value.code, refused.value.param) == ("invalid_image", "messages.1.content.2.image_url.url")
        path = refused.value.message.split("GET /v1")[1].split("'")[0]
        job: Any = client.get(path, cast_to=object)
    first, second, third = job["images"]
    assert first["text"].startswith("text of") and third["text"].startswith("text of")
    assert (second["text"], second["error"]["code"]) == (None, "invalid_image")
    assert job["usage"]["lines"] == 2


def test_a_request_that_has_no_place_to_wait_is_not_submitted(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INKQUEUE_MAX_WAITING_PER_ACCOUNT", "0")
    settings.cache_clear()
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as refused:
            client.with_options(max_retries=0).chat.completions.create(
                model=MODEL, messages=messages(image()), stream=stream
            )
        assert refused.value.code == "rate_limited"
    monkeypatch.undo()
    settings.cache_clear()
    assert rows("SELECT id FROM jobs") == []


def test_what_is_not_read_in_time_is_given_up_unless_its_client_can_come_back(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.prompt_readings._LONGEST_WAIT_S", 0.0)
    ask_once = client.with_options(max_retries=0).chat.completions.create
    for headers, end, status in (({}, "given up, free", "canceled"), ({"Idempotency-Key": "a"}, "goes on", "queued")):
        with pytest.raises(openai.InternalServerError, match=end) as refused:
            ask_once(model=MODEL, messages=messages(image()), extra_headers=headers)
        assert refused.value.status_code == 503
        assert rows("SELECT status FROM jobs ORDER BY id DESC LIMIT 1") == [(status,)]


def test_a_stream_tells_the_text_while_it_is_read(client: openai.OpenAI, brake: Brake) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=messages(image()), stream=True, stream_options={"include_usage": True}
    )
    first = next(stream)
    assert (first.choices[0].delta.role, first.choices[0].delta.content, brake.steps) == ("assistant", "", 0)
    brake.allow(3)
    content = ""
    for chunk in stream:
        content += chunk.choices[0].delta.content or ""
        if content == "tex":
            break
    assert brake.steps == 3  # of ten
    brake.allow(100)
    *rest, usage = stream
    content += "".join(chunk.choices[0].delta.content or "" for chunk in rest)
    assert content == f"text of {image_ids()[0]}"
    assert [chunk.choices[0].finish_reason for chunk in rest][-1] == "stop"
    assert usage.choices == []
    assert usage.usage is not None and usage.usage.prompt_tokens == 578


def test_a_stream_of_several_lines_tells_them_in_order(client: openai.OpenAI, brake: Brake) -> None:
    brake.allow(1000)
    stream = client.chat.completions.create(model=MODEL, messages=messages(*[image()] * 3), stream=True)
    content = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert content == "\n".join(f"text of {image_id}" for image_id in image_ids())


@pytest.mark.usefixtures("worker")
def test_the_sdks_own_accumulation_of_a_stream_works(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=messages(image())) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.get_final_completion().choices[0].message.content == text == f"text of {image_ids()[0]}"


def test_a_stream_whose_text_was_not_what_is_read_in_the_end_says_so(client: openai.OpenAI, brake: Brake) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=messages(image()), stream=True)
    next(stream)
    (image_id,) = image_ids()
    text = LiveText(image_id=image_id, attempt=9, text="another attempt")
    # Sent until somebody listens: a notice that nobody hears is lost.
    wait_until(lambda: redis_client().publish(TEXT_SETTLED, text.notice))
    assert next(stream).choices[0].delta.content == "another attempt"
    brake.allow(100)
    with pytest.raises(openai.APIError, match="differs from what was streamed") as ended:
        list(stream)
    assert ended.value.code == "superseded"


def test_twenty_streams_run_side_by_side(address: str, brake: Brake) -> None:
    key = new_key()
    contents: list[str] = []

    def follow() -> None:
        with client_of(address, key) as client:
            stream = client.chat.completions.create(model=MODEL, messages=messages(image()), stream=True)
            contents.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    brake.allow(1000)
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(contents) == sorted(f"text of {image_id}" for image_id in image_ids())
    assert len(contents) == 20
    assert_ledger_balances()


def test_a_stream_whose_client_goes_away_is_canceled_free(client: openai.OpenAI, brake: Brake) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=messages(image()), stream=True)
    next(stream)
    brake.allow(2)
    wait_until(lambda: brake.steps == 2)
    stream.close()
    wait_until(lambda: rows("SELECT status FROM jobs") == [("canceled",)])
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(1_000_000_000, 0)]


def test_a_plain_request_whose_client_goes_away_is_canceled(address: str, brake: Brake) -> None:
    with (
        client_of(address, new_key()).with_options(timeout=0.5, max_retries=0) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        ask(client)
    wait_until(lambda: rows("SELECT status FROM jobs") == [("canceled",)])
    assert brake.steps == 0


def test_a_client_that_may_come_back_finds_its_line_read(address: str, brake: Brake) -> None:
    key, once = new_key(), {"Idempotency-Key": "mine"}
    with (
        client_of(address, key).with_options(timeout=0.5, max_retries=0) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        ask(client, extra_headers=once)
    brake.allow(1000)
    with client_of(address, key) as client:
        assert ask(client, extra_headers=once).choices[0].message.content == f"text of {image_ids()[0]}"
    assert rows("SELECT count(*) FROM jobs") == [(1,)]


@pytest.mark.usefixtures("worker")
def test_a_stream_on_the_wire_ends_with_done(address: str) -> None:
    answer = httpx.post(
        f"{address}/v1/chat/completions",
        headers={"Authorization": f"Bearer {new_key()}"},
        json={"model": MODEL, "messages": messages(image()), "stream": True},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
