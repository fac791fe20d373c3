"""Taking a request once: its `Idempotency-Key` or the caller's own id, and a fingerprint of what it sends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator

from flask import Request
from werkzeug.datastructures import FileStorage

from core.database import looking
from core.errors import InkqueueError, MalformedRequest
from core.idempotency import AlreadySubmitted, Earlier, Once, find, under_own_id
from core.job_views import JobView

#: As Stripe has it.
_MAX_KEY = 255
_HEADER = "Idempotency-Key"


def once_of(request: Request) -> Once | None:
    """Under what the present submission is taken once, if its caller has said so.

    Raises:
        MalformedRequest: The key is empty or too long.
    """
    if _HEADER not in request.headers:
        return None
    key = request.headers[_HEADER]
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise MalformedRequest(f"an {_HEADER} has 1 to {_MAX_KEY} printable characters", param=_HEADER)
    return Once(key=f"POST {key}", fingerprint=_fingerprint(request))


def once_by_id(request: Request, client_id: str) -> Once:
    """The same for a job that the caller gives an id."""
    return under_own_id(client_id, _fingerprint(request))


def take_once(account_id: str, once: Once | None, take: Callable[[], JobView]) -> JobView | Earlier:
    """Take a submission, and return its job; or return the one that was taken before under the same key.

    Args:
        account_id: Whose submission.
        once: Under what it is taken once; None: it is taken whatever came before.
        take: Judges and takes it; not called when one came before.
    """
    if (earlier := _earlier(account_id, once)) is not None:
        return earlier
    try:
        return take()
    except AlreadySubmitted as already:
        return already.earlier
    except InkqueueError:
        # Whoever sent the same at the same time may have been taken, with the last credits or the last room.
        if (earlier := _earlier(account_id, once)) is None:
            raise
        return earlier


def _earlier(account_id: str, once: Once | None) -> Earlier | None:
    if once is None:
        return None
    with looking() as connection:
        return find(connection, account_id, once)


def _fingerprint(request: Request) -> bytes:
    """SHA-256 over what the request means rather than how it is written.

    Of a form, the bytes of its files, their names and its options, not the boundary between them; of JSON, its values,
    not their order. An image's URL counts as such: it is not fetched again for a replay.
    """
    digest = hashlib.sha256()
    for part in _parts(request):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _parts(request: Request) -> Iterator[bytes]:
    # A retry has neither query nor body: its path says of which job.
    yield request.path.encode()
    yield _canonical(sorted(request.args.items(multi=True)))
    if request.mimetype == "multipart/form-data":
        # A part of a form may have no name.
        yield _canonical(sorted(request.form.items(multi=True), key=lambda part: (part[0] or "", part[1])))
        for field, file in request.files.items(multi=True):
            yield _canonical([field, file.filename])
            yield _digest(file)
    else:
        body = request.get_data()
        yield request.mimetype.encode()
        yield _normalized(body) if request.mimetype == "application/json" else body


def _digest(file: FileStorage) -> bytes:
    # From the file's own stream and back: a job's files are not held in memory twice.
    digest = hashlib.file_digest(file.stream, "sha256").digest()  # type: ignore[arg-type] # it is binary
    file.stream.seek(0)
    return digest


def _normalized(body: bytes) -> bytes:
    try:
        return _canonical(json.loads(body))
    except (ValueError, RecursionError):
        # Refused in a moment for what it is.
        return body


def _canonical(values: object | Iterable[object]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
