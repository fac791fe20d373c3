"""A line's text while it is read, on its way from the worker to those who stream it; never the truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote

from core import notices

_CHANNEL = notices.TEXT_SETTLED


@dataclass(frozen=True, kw_only=True)
class LiveText:
    """How the text of an image begins, as far as one attempt to read it has come.

    It is the whole beginning, not what is new in it: its length is the position, and a lost notice leaves no gap.
    """

    image_id: str
    #: The fencing token of the attempt; another attempt begins anew.
    attempt: int
    text: str

    @classmethod
    def of(cls, notice: str) -> LiveText:
        """What a notice says."""
        image_id, attempt, text = notice.split(":")
        return cls(image_id=image_id, attempt=int(attempt), text=unquote(text))

    @property
    def notice(self) -> str:
        """It as one word, since spaces part the words of a notice."""
        return f"{self.image_id}:{self.attempt}:{quote(self.text, safe='')}"


def send(texts: Collection[LiveText]) -> None:
    """Tell all who listen; without Redis this does nothing."""
    notices.notify(_CHANNEL, [text.notice for text in texts])
