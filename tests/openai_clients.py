"""OpenAI's own client, pointed at the API in a server of its own, over real sockets."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import openai
from werkzeug.serving import make_server

from api.app import create_app
from core import accounts
from core.database import transaction


@contextmanager
def serving() -> Iterator[str]:
    """The address of the API, with a thread for each request."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def new_key(account: str = "archive") -> str:
    """A key of the account."""
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, account)
        return accounts.create_key(connection, account_id=account_id, name="test")


def client_of(address: str, key: str) -> openai.OpenAI:
    """The SDK as its documentation shows it, without waits between its retries being of interest."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key)


def data_url(data: bytes, content_type: str = "image/png") -> str:
    """An image as clients put it into JSON."""
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"
