"""Errors on the wire: one table from an error's class to its HTTP status, in OpenAI's shape."""

from __future__ import annotations

import structlog
from flask import Flask, Response, g, jsonify, request
from flask_openapi3.types import ResponseDict
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api.schemas import ErrorBody
from core import errors

_STATUS: dict[type[errors.InkqueueError], int] = {
    errors.MalformedRequest: 400,
    errors.UnsupportedParameter: 400,
    errors.UnsupportedOperation: 400,
    errors.InvalidApiKey: 401,
    errors.InsufficientCredits: 402,
    errors.KeyBudgetExceeded: 402,
    errors.MissingScope: 403,
    errors.NotFound: 404,
    errors.ModelNotFound: 404,
    errors.ModelNotLoaded: 404,
    errors.AlreadyFinished: 409,
    errors.Canceled: 409,
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
    errors.BeamsNotAvailable: 422,
    errors.IdempotencyConflict: 422,
    errors.RateLimited: 429,
    errors.QueueFull: 429,
    errors.TooManyBatches: 429,
    errors.InkqueueError: 500,
    errors.Superseded: 500,
    errors.WorkerLost: 500,
    errors.Contended: 503,
    errors.Unavailable: 503,
}
#: Of those with the same code, the last: the general one.
_BY_CODE = {error.code: error for error in _STATUS}
#: OpenAI's clients send a request again after these statuses; with these codes it would be in vain.
_RETRIED = frozenset({408, 409, 429}) | frozenset(range(500, 600))
_IN_VAIN = frozenset(
    {
        "already_finished",
        "canceled",
        "insufficient_quota",
        "not_finished",
        "superseded",
        "too_many_batches",
        "worker_lost",
    }
)
#: What OpenAI calls an account that cannot pay.
_QUOTA = "insufficient_quota"
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
#: Characters of an error's message: it may repeat what was sent, such as the name of a field, of any length.
_MOST_TOLD = 1000
_PAYMENT_REQUIRED = 402
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


def speak_as_openai() -> None:
    """Answer the present request, where it cannot be paid for, as OpenAI does; for the paths that are OpenAI's."""
    g.speaks_as_openai = True


def storable(text: str) -> str:
    """What an error says, whatever was sent: cut, and without the one character that Postgres does not store."""
    cut = text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]} …"
    return cut.replace("\0", "\N{REPLACEMENT CHARACTER}")


def error_of_code(code: str, message: str, *, param: str | None = None) -> errors.InkqueueError:
    """An error that was stored by its code, such as an image's."""
    error = _BY_CODE.get(code, errors.InkqueueError)(message)
    error.param = param
    return error


def described(error: errors.InkqueueError, *, as_openai: bool) -> tuple[int, dict[str, str | None]]:
    """The status of an error, and what its body says of it."""
    status, code = _STATUS[type(error)], error.code
    kind = _TYPE.get(status, "invalid_request_error")
    if as_openai and status == _PAYMENT_REQUIRED:
        status, code, kind = 429, _QUOTA, _QUOTA
    param = None if error.param is None else storable(error.param)
    return status, {"message": storable(error.message), "type": kind, "code": code, "param": param}


def _known(error: errors.InkqueueError) -> Response:
    status, body = described(error, as_openai=g.get("speaks_as_openai", False))
    answer = jsonify({"error": body})
    answer.status_code = status
    if body["code"] in _IN_VAIN and status in _RETRIED:
        answer.headers["x-should-retry"] = "false"
    elif status in (429, 503):
        answer.headers["Retry-After"] = str(error.retry_after_s or _RETRY_AFTER_S)
    return answer


def _http(exc: HTTPException) -> Response:
    if isinstance(exc, RequestEntityTooLarge):
        return _known(errors.ImageTooLarge("the request body is over the limit"))
    if exc.code == 404:
        return _known(errors.NotFound(f"there is no {request.path}"))
    answer = _known(errors.MalformedRequest(exc.description))
    answer.status_code = exc.code or 500
    if exc.code == 405:
        answer.headers["Allow"] = dict(exc.get_headers()).get("Allow", "")
    return answer


def _unforeseen(exc: Exception) -> Response:
    _log.error("a request failed", exc_info=exc)
    return _known(errors.InkqueueError("something went wrong here; the request id finds it in the log"))
