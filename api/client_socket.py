"""Whether the client of a request is still there, seen from its socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

#: Where servers put it: gunicorn, and Werkzeug's own for development and tests.
_PLACES = ("gunicorn.socket", "werkzeug.socket")


def presence_of(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A look at the client of a request that costs no time; where there is no socket to look at, it is always there."""
    found = [environ[place] for place in _PLACES if environ.get(place) is not None]
    return (lambda: _is_open(found[0])) if found else (lambda: True)


def _is_open(connection: socket.socket) -> bool:
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        # Readable, with nothing to read: the other side has closed it. What there is to read is the next request.
        return not poll.poll(0) or bool(connection.recv(1, socket.MSG_PEEK))
    except (OSError, ValueError):
        return False
