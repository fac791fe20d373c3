"""Who calls: the API key of a request."""

from __future__ import annotations

from typing import cast

from flask import g, request

from api.bodies import hold_body
from api.rate_limits import count_request
from core.accounts import Caller, Scope
from core.errors import InvalidApiKey, MissingScope
from core.identification import identify


def authenticate() -> None:
    """Find the caller of the present request by its key, before anything else of the request is read.

    Asked of Postgres each time, so that a revoked key stops at once in every process. Who only looks needs the scope
    `read`, anybody else `jobs`; each scope holds those below it.

    Raises:
        InvalidApiKey: The key is missing, unknown, expired or revoked.
        MissingScope: The key may not do this.
        RateLimited: It has sent too many requests, or too much is being received.
    """
    _identify()
    count_request(caller())
    require(Scope.READ if request.method in ("GET", "HEAD") else Scope.JOBS)
    hold_body(caller(), request)


def authenticate_admin() -> None:
    """Find the caller of the present request, which must hold the scope `admin`.

    Raises:
        InvalidApiKey: The key is missing, unknown, expired or revoked.
        MissingScope: The key may not do this.
        RateLimited: It has sent too many requests, or too much is being received.
    """
    _identify()
    count_request(caller())
    require(Scope.ADMIN)
    hold_body(caller(), request)


def _identify() -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise InvalidApiKey("send the API key as: Authorization: Bearer ink_...")
    g.caller = identify(key.strip())


def require(scope: Scope) -> None:
    """Refuse the caller of the present request unless its key holds this scope.

    Raises:
        MissingScope: It does not.
    """
    if not caller().may(scope):
        held = ", ".join(sorted(caller().scopes)) or "none"
        raise MissingScope(f"this needs a key with the scope {scope}; this key has: {held}")


def caller() -> Caller:
    """The caller of the present request, after `authenticate`."""
    return cast(Caller, g.caller)
