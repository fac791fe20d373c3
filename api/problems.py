"""Errors on the wire: one table from an error's class to its HTTP status, in OpenAI's shape."""

from __future__ import annotations

import structlog
from flask import Flask, Response, jsonify, request
from flask_openapi3.types import ResponseDict
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api.schemas import ErrorBody
from core import errors

_STATUS: dict[type[errors.InkqueueError], int] = {
    errors.MalformedRequest: 400,
    errors.InvalidApiKey: 401,
    errors.InsufficientCredits: 402,
    errors.KeyBudgetExceeded: 402,
    errors.MissingScope: 403,
    errors.NotFound: 404,
    errors.ModelNotFound: 404,
    errors.ModelNotLoaded: 404,
    errors.AlreadyFinished: 409,
    errors.IdempotencyInProgress: 409,
    errors.NotFinished: 409,
    errors.Gone: 410,
    errors.ImageTooLarge: 413,
    errors.UnsupportedImage: 415,
    errors.InvalidImage: 422,
    errors.TooManyImages: 422,
    errors.UrlNotAllowed: 422,
    errors.UrlUnreachable: 422,
    errors.ModeNotAvailable: 422,
    errors.IdempotencyConflict: 422,
    errors.RateLimited: 429,
    errors.QueueFull: 429,
    errors.Unavailable: 503,
}
#: OpenAI's word for each kind of error; its clients choose their exception by the status.
_TYPE = {
    401: "authentication_error",
    402: "insufficient_credits",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_RETRY_AFTER_S = 2
#: For the description of the API: what any path may answer beside its success.
ERROR_RESPONSES: ResponseDict = dict.fromkeys(
    (400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 429, 500, 503), ErrorBody
)

_log = structlog.get_logger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Make the application answer every error in the one shape."""
    app.register_error_handler(errors.InkqueueError, _known)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unforeseen)


def malformed(exc: ValidationError) -> errors.MalformedRequest:
    """The first thing that is wrong with a request, as our error."""
    first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return errors.MalformedRequest(f"{place}: {first['msg']}" if place else first["msg"], param=place or None)


def _known(error: errors.InkqueueError) -> Response:
    return _answer(_STATUS[type(error)], error)


def _http(exc: HTTPException) -> Response:
    if isinstance(exc, RequestEntityTooLarge):
        return _answer(413, errors.ImageTooLarge("the request body is over the limit"))
    if exc.code == 404:
        return _answer(404, errors.NotFound(f"there is no {request.path}"))
    answer = _answer(exc.code or 500, errors.MalformedRequest(exc.description))
    if exc.code == 405:
        answer.headers["Allow"] = dict(exc.get_headers()).get("Allow", "")
    return answer


def _unforeseen(exc: Exception) -> Response:
    _log.error("a request failed", exc_info=exc)
    return _answer(500, errors.InkqueueError("something went wrong here; the request id finds it in the log"))


def _answer(status: int, error: errors.InkqueueError) -> Response:
    answer = jsonify(
        {
            "error": {
                "message": error.message,
                "type": _TYPE.get(status, "invalid_request_error"),
                "code": error.code,
                "param": error.param,
            }
        }
    )
    answer.status_code = status
    if status in (429, 503):
        answer.headers["Retry-After"] = str(error.retry_after_s or _RETRY_AFTER_S)
    return answer
