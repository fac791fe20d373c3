"""JSON that callers send, whole and of the right shape."""

from __future__ import annotations

from typing import TypeVar

from flask import Request
from pydantic import BaseModel, ValidationError

from api.problems import malformed
from core.errors import MalformedRequest

_Model = TypeVar("_Model", bound=BaseModel)


def whole_body(request: Request) -> bytes:
    """The bytes of a body, all of them.

    Raises:
        MalformedRequest: Its sender went away before its end.
    """
    data = request.get_data(cache=False)
    # The server hands on what it got of a body whose sender went away.
    if request.content_length is not None and len(data) != request.content_length:
        raise MalformedRequest("the body ended early")
    return data


def read_json(request: Request, model: type[_Model]) -> _Model:
    """The body of a request as a model.

    Raises:
        MalformedRequest: It is not JSON of that shape; `param` names the first field that is wrong.
    """
    return parsed_json(whole_body(request), model)


def parsed_json(data: bytes, model: type[_Model]) -> _Model:
    """JSON as a model.

    Raises:
        MalformedRequest: It is not JSON of that shape; `param` names the first field that is wrong.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as exc:
        raise malformed(exc) from exc
