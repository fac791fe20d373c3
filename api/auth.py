"""Who calls: the API key of a request."""

from __future__ import annotations

from typing import cast

from flask import g, request

from core import accounts
from core.accounts import Caller
from core.database import transaction
from core.errors import InvalidApiKey


def authenticate() -> None:
    """Find the caller of the present request by its key, before anything else of the request is read.

    Asked of Postgres each time, so that a revoked key stops at once in every process.

    Raises:
        InvalidApiKey: The key is missing, unknown or revoked.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise InvalidApiKey("send the API key as: Authorization: Bearer ink_...")
    with transaction() as connection:
        g.caller = accounts.caller_of(connection, key.strip())


def caller() -> Caller:
    """The caller of the present request, after `authenticate`."""
    return cast(Caller, g.caller)
