"""What the schemas of all requests are made of."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.IGNORECASE)


def storable(text: str) -> str:
    """Give back a text that Postgres can store: it stores every character but one."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored")
    return text


#: A text that goes to Postgres as it is.
Storable = Annotated[str, AfterValidator(storable)]


def _written_out(moment: object) -> object:
    # A number would be taken for seconds since 1970, or for milliseconds, by its size.
    if isinstance(moment, int | float) or (isinstance(moment, str) and _NUMBER.fullmatch(moment.strip())):
        raise ValueError("a time is written as in RFC 3339: 2026-11-25T09:00:00Z")
    return moment


#: A time with its offset.
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class Read(BaseModel):
    """What is read from a request, field by field."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Its JSON schema; without arguments, one that is made once."""
        # The router asks so for a query's fields with each request; making it took 9 % of a submission.
        return super().model_json_schema(*args, **kwargs) if args or kwargs else cls._own_json_schema()

    @classmethod
    @cache
    def _own_json_schema(cls) -> dict[str, Any]:
        return super().model_json_schema()


class Sent(Read):
    """What callers send: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")
