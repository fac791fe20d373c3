"""Batches as tests write, send and read them with OpenAI's SDK, and a clerk without a process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai.types import Batch

from api.batch_rounds import Clerk
from tests.domain import MODEL, png
from tests.openai_clients import data_url
from tests.waiting import wait_until

LINE = data_url(png())


class Killed(BaseException):
    """What a clerk dies of; nothing in it can catch that."""


@contextmanager
def working() -> Iterator[None]:
    """A clerk at work; one that is killed is followed by another."""
    stopped = threading.Event()
    clerk = Clerk()

    def work() -> None:
        nonlocal clerk
        while not stopped.wait(0.01):
            try:
                clerk.work_once(stopped)
            except Killed:
                clerk = Clerk()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def chat(custom_id: str, *urls: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls or (LINE,)]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]} | more
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def response(custom_id: str, **image: str) -> dict[str, Any]:
    content = [{"type": "input_image", **(image or {"image_url": LINE})}]
    body = {"model": MODEL, "input": [{"role": "user", "content": content}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}


def upload(client: openai.OpenAI, *requests: dict[str, Any] | str) -> str:
    lines = [request if isinstance(request, str) else json.dumps(request) for request in requests]
    return client.files.create(file=("batch.jsonl", "\n".join(lines).encode()), purpose="batch").id


def create(client: openai.OpenAI, *requests: dict[str, Any] | str, endpoint: Any = "/v1/chat/completions") -> Batch:
    return client.batches.create(
        input_file_id=upload(client, *requests), endpoint=endpoint, completion_window="24h", metadata={"box": "12"}
    )


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    def has_ended() -> bool:
        return client.batches.retrieve(batch.id).status in ("completed", "failed", "expired", "cancelled")

    wait_until(has_ended, timeout_s=60)
    return client.batches.retrieve(batch.id)


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line for line in lines}


def counts(batch: Batch) -> tuple[int, int, int]:
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed
