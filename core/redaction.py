"""What must never stand in a log, taken out of its lines at the last moment: whoever logs need not think of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from structlog.typing import EventDict, WrappedLogger

_HIDDEN = "***"
#: Each with what is shown in its place.
_SECRETS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), shown)
    for pattern, shown in (
        # An API key, a webhook's secret, and whatever else was sent as a credential.
        (r"\b(ink_|whsec_)[\w+/=-]{8,}", rf"\1{_HIDDEN}"),
        (r"\b(bearer|basic) [\w+/=.~-]+", rf"\1 {_HIDDEN}"),
        # User and password of an address; a password may hold any character but blanks.
        (r"(\b[a-z][a-z0-9+.-]*://)[^\s\"'<>]*@", rf"\1{_HIDDEN}@"),
        # An image in text, and a query: signed addresses carry their signature there, and people their metadata.
        (r"(\bdata:)[^\s\"'<>]{16,}", rf"\1{_HIDDEN}"),
        (r"(\S\?)[^\s\"'<>=]+=[^\s\"'<>]*", rf"\1{_HIDDEN}"),
        # Postgres tells the values of a row that it refuses, which may have lines; in a repr all of it is one line.
        (
            r"(?:\b|(?<=\\n))((?-i:DETAIL|CONTEXT)):.*?(?=\n(?:HINT:|CONTEXT:|LINE |\[SQL|\n|Traceback)|\Z)",
            rf"\1: {_HIDDEN}",
        ),
    )
)


#: What all of them have one of; most texts have none, and looking once is cheaper than six times.
_SIGN_OF_SECRETS = re.compile(r"ink_|whsec_|bearer |basic |://|data:|\?|DETAIL:|CONTEXT:", re.IGNORECASE)


def redacted(text: str) -> str:
    """A text without keys, secrets, passwords, queries and images."""
    if not _SIGN_OF_SECRETS.search(text):
        return text
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def redact_record(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """Take the secrets out of each value of a record; the processor before the one that renders it."""
    return {name: _redacted_value(value) for name, value in record.items()}


def _redacted_value(value: object) -> object:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {name: _redacted_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted_value(inner) for inner in value]
    return redacted(repr(value))
