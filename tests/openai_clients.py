"""OpenAI's own client, pointed at the API in a server of its own, over real sockets."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import openai
from werkzeug.serving import make_server

from api.app import create_app
from api.live_texts import live_texts
from core.notices import TEXT_SETTLED
from core.redis_address import redis_client
from tests.waiting import wait_until


@contextmanager
def serving() -> Iterator[str]:
    """The address of the API, with a thread for each request."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
    live_texts()
    wait_until(lambda: dict(redis_client().pubsub_numsub(TEXT_SETTLED))[TEXT_SETTLED.encode()])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(address: str, key: str) -> openai.OpenAI:
    """The SDK as its documentation shows it, without waits between its retries being of interest."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key)


def data_url(data: bytes, content_type: str = "image/png") -> str:
    """An image as clients put it into JSON."""
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"
