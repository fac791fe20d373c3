"""`client.responses` of OpenAI's SDK, against the API and a worker."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from core.errors import InvalidImage
from tests.domain import MODEL, assert_ledger_balances, new_caller, new_key, png, rows
from tests.fakes import FakeRecognizer
from tests.openai_clients import client_of, data_url
from tests.waiting import wait_until
from tests.workers import Brake, FakeDecoder, pumped, worker_of

LINE = data_url(png())


def lines(*images: dict[str, Any]) -> Any:
    parts = [{"type": "input_image", "detail": "auto", **image} for image in images or ({"image_url": LINE},)]
    return [{"role": "user", "content": [{"type": "input_text", "text": "What does it say?"}, *parts]}]


def ask(client: openai.OpenAI, *images: dict[str, Any], **more: Any) -> Response:
    response = client.responses.create(model=MODEL, input=lines(*images), **more)
    assert isinstance(response, Response)
    return response


def image_ids() -> list[str]:
    return [str(image_id) for (image_id,) in rows("SELECT id FROM images ORDER BY job_id, position")]


@pytest.mark.usefixtures("worker")
def test_a_line_is_read(client: openai.OpenAI) -> None:
    response = ask(client, instructions="Read it.", temperature=0, metadata={"box": "12"})
    assert response.output_text == f"text of {image_ids()[0]}"
    assert (response.status, response.error, response.metadata) == ("completed", None, {"box": "12"})
    assert response.id.startswith("resp_")
    assert response.usage is not None
    assert response.usage.input_tokens == 578
    assert response.usage.total_tokens == 578 + response.usage.output_tokens
    assert response.usage.to_dict()["ocr"] == {"lines": 1, "credits": 1.5}
    assert client.responses.retrieve(response.id) == response


@pytest.mark.usefixtures("worker")
def test_urls_and_uploads_are_read_in_order(client: openai.OpenAI) -> None:
    file = client.files.create(file=("line.png", png()), purpose="vision")
    response = ask(client, {"file_id": file.id}, {"image_url": LINE}, {"file_id": file.id})
    assert response.output_text == "\n".join(f"text of {image_id}" for image_id in image_ids())


def test_a_response_in_the_background_is_a_job_to_be_looked_at(client: openai.OpenAI) -> None:
    brake = Brake()
    with worker_of(FakeRecognizer(rows=32, on_step=brake, steps=10)) as transcription:
        # The worker takes nothing yet, however fast it is.
        response = ask(client, background=True)
        assert (response.status, response.output, response.usage) == ("queued", [], None)
        assert rows("SELECT priority FROM jobs") == [(1,)]
        with pumped(transcription):
            brake.allow(1)
            wait_until(lambda: client.responses.retrieve(response.id).status == "in_progress")
            brake.allow(100)
            wait_until(lambda: client.responses.retrieve(response.id).status == "completed")
    assert client.responses.retrieve(response.id).output_text == f"text of {image_ids()[0]}"


def test_a_response_is_canceled_twice_and_deleted(client: openai.OpenAI, brake: Brake) -> None:
    response = ask(client, background=True)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    client.responses.delete(response.id)
    for look in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            look(response.id)
    assert brake.steps == 0
    assert rows("SELECT held_micro FROM accounts") == [(0,)]


@pytest.mark.usefixtures("worker")
def test_a_response_that_has_ended_is_not_canceled(client: openai.OpenAI) -> None:
    with pytest.raises(openai.ConflictError) as refused:
        client.responses.cancel(ask(client).id)
    assert refused.value.code == "already_finished"
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_stream_has_openais_events_in_order_and_begins_early(client: openai.OpenAI, brake: Brake) -> None:
    stream = client.responses.create(model=MODEL, input=lines(), stream=True)
    events = [next(stream) for _ in range(4)]
    assert brake.steps == 0
    brake.allow(3)
    deltas = ""
    while deltas != "tex":
        events.append(next(stream))
        deltas += events[-1].delta  # type: ignore[union-attr,operator]
    assert brake.steps == 3  # of ten
    brake.allow(100)
    events += stream
    kinds = [event.type for event in events]
    text = f"text of {image_ids()[0]}"
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == text  # type: ignore[union-attr]


def test_the_sdks_own_accumulation_of_a_stream_works(client: openai.OpenAI, brake: Brake) -> None:
    brake.allow(1000)
    with client.responses.stream(model=MODEL, input=lines()) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text == f"text of {image_ids()[0]}"


def test_a_stream_whose_client_goes_away_is_canceled_but_not_in_the_background(
    client: openai.OpenAI, brake: Brake
) -> None:
    for background in (False, True):
        stream = client.responses.create(model=MODEL, input=lines(), stream=True, background=background)
        next(stream)
        stream.close()
    wait_until(lambda: ("canceled",) in rows("SELECT status FROM jobs"))
    brake.allow(1000)
    wait_until(lambda: rows("SELECT status FROM jobs ORDER BY id") == [("canceled",), ("succeeded",)])
    assert_ledger_balances()


def test_a_line_that_does_not_decode_ends_a_stream_as_failed(client: openai.OpenAI) -> None:
    with worker_of(FakeRecognizer(), FakeDecoder(InvalidImage("truncated"))) as transcription, pumped(transcription):
        *_, last = client.responses.create(model=MODEL, input=lines(), stream=True)
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert (last.response.error.code, last.response.error.message) == ("invalid_image", "truncated")
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            ask(client)
        assert refused.value.code == "invalid_image"


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"text": {"format": {"type": "json_object"}}}, "text", "unsupported_parameter"),
        ({"extra_body": {"maximum": 1}}, "maximum", "malformed_request"),
    ],
)
def test_parameters_that_would_change_the_answer_are_refused(
    client: openai.OpenAI, more: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=param) as refused:
        ask(client, **more)
    assert (refused.value.code, refused.value.param) == (code, param)


def test_a_response_in_the_background_is_streamed_to_whoever_looks(client: openai.OpenAI, brake: Brake) -> None:
    response = ask(client, background=True)
    stream = client.responses.retrieve(response.id, stream=True)
    events = [next(stream) for _ in range(4)]
    brake.allow(1000)
    events += stream
    again = list(client.responses.retrieve(response.id, stream=True))
    for told in (events, again):
        assert [event.sequence_number for event in told] == list(range(len(told)))
        assert (told[0].type, told[-1].type) == ("response.created", "response.completed")
        assert told[0].response.output == []  # type: ignore[union-attr]
        text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
        assert told[-1].response.output_text == text == f"text of {image_ids()[0]}"  # type: ignore[union-attr]


def test_whoever_leaves_the_stream_of_a_response_cancels_nothing(client: openai.OpenAI, brake: Brake) -> None:
    response = ask(client, background=True)
    stream = client.responses.retrieve(response.id, stream=True)
    next(stream)
    stream.close()
    brake.allow(1000)
    wait_until(lambda: client.responses.retrieve(response.id).status == "completed")


def test_what_is_not_kept_of_a_response_is_refused(client: openai.OpenAI) -> None:
    response = ask(client, background=True)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_items.list(response.id)
    assert refused.value.code == "unsupported_operation"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.retrieve(response.id, stream=True, starting_after=3)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "starting_after")
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list("resp_01jd4000000000000000000000")


async def _ask_async(address: str, key: str) -> tuple[Response, list[Any]]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key) as client:
        response = await client.responses.create(model=MODEL, input=lines())
        stream = await client.responses.create(model=MODEL, input=lines(), stream=True)
        return response, [event async for event in stream]


@pytest.mark.usefixtures("worker")
def test_the_asynchronous_client_has_responses_too(address: str) -> None:
    response, events = asyncio.run(_ask_async(address, new_key()))
    first, second = image_ids()
    assert response.output_text == f"text of {first}"
    assert events[-1].response.output_text == f"text of {second}"


@pytest.mark.parametrize("images", ["What does it say?", [{"role": "user", "content": "Hello"}]])
def test_an_input_without_an_image_is_refused(client: openai.OpenAI, images: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="no image"):
        client.responses.create(model=MODEL, input=images)


def test_an_unknown_upload_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, {"file_id": "file_01jd4000000000000000000000"})
    assert refused.value.param == "input.0.content.1.file_id"


def test_an_account_without_credit_is_told_so(address: str) -> None:
    new_caller("poor", grant_credits=0)
    with client_of(address, new_key("poor")) as client, pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert refused.value.code == "insufficient_quota"


@pytest.mark.parametrize("response_id", ["resp_01jd4000000000000000000000", "resp_1", "%00"])
def test_an_unknown_response_is_not_found(client: openai.OpenAI, response_id: str) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response_id)
