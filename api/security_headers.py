"""Headers that tell browsers and caches what not to do with an answer."""

from __future__ import annotations

from flask import Flask, Response, request

#: An answer is data: nothing in it runs, loads or frames anything.
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
#: What everybody may read and every cache may keep; all else is an account's own, or true for a moment.
_PUBLIC = ("/docs", "/openapi.json")


def register_security_headers(app: Flask) -> None:
    """Put the headers on every answer of the application; one that an answer already has stays."""
    app.after_request(_guarded)


def _guarded(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", _NO_CONTENT)
    if not request.path.startswith(_PUBLIC):
        headers.setdefault("Cache-Control", "no-store")
    return response
