"""A response piece by piece: OpenAI's events, out of what is settled of the text while it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from api.openai_schemas import dumped
from api.problems import described
from api.prompt_readings import ClientGone, Prompt, read_growing
from api.response_schemas import OutputMessageBody, OutputTextBody, ResponseBody, message_id
from core.errors import InkqueueError
from core.readings import Reading

#: A response at its beginning: events tell one that has ended as if it were just being read.
_UNREAD: dict[str, Any] = {
    "status": "in_progress",
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "output": [],
    "usage": None,
}


def response_stream(prompt: Prompt, begun: Reading, is_there: Callable[[], bool]) -> Iterator[str]:
    """The events of one response.

    The tokens, for those who want their probabilities, come with the whole text, as Postgres has them.

    Raises:
        RateLimited: Too many wait already.
    """
    pieces = read_growing(prompt, is_there)
    # Begun before the answer begins, while an error can still be one.
    next(pieces)
    return _events(pieces, _Events(begun))


def _events(pieces: Generator[str | None, None, Reading], events: _Events) -> Iterator[str]:
    try:
        yield from events.beginning()
        while True:
            piece = next(pieces)
            yield ": still there\n\n" if piece is None else events.delta(piece)
    except StopIteration as end:
        yield from events.ending(end.value)
    except InkqueueError as error:
        yield events.failure(error)
    except ClientGone:
        return
    finally:
        pieces.close()


class _Events:
    """The events of one response, numbered."""

    def __init__(self, begun: Reading) -> None:
        self._begun = dumped(ResponseBody.of(begun)) | _UNREAD
        self._item: dict[str, Any] = {"output_index": 0, "item_id": message_id(begun), "content_index": 0}
        self._number = 0

    def beginning(self) -> Iterator[str]:
        """What comes before the text."""
        message = OutputMessageBody(id=self._item["item_id"], status="in_progress", content=[])
        yield self._event("response.created", response=self._begun)
        yield self._event("response.in_progress", response=self._begun)
        yield self._event("response.output_item.added", output_index=0, item=dumped(message))
        yield self._event("response.content_part.added", **self._item, part=dumped(OutputTextBody(text="")))

    def delta(self, text: str) -> str:
        """A piece of the text."""
        return self._event("response.output_text.delta", **self._item, delta=text, logprobs=[])

    def ending(self, whole: Reading) -> Iterator[str]:
        """What follows the text: the whole of it, once more at each level."""
        response, message, text = ResponseBody.of(whole), OutputMessageBody.of(whole), OutputTextBody.of(whole)
        part = dumped(text)
        yield self._event("response.output_text.done", **self._item, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **self._item, part=part)
        yield self._event("response.output_item.done", output_index=0, item=dumped(message))
        yield self._event(f"response.{response.status}", response=dumped(response))

    def failure(self, error: InkqueueError) -> str:
        """The end of a response that could not be read."""
        _, body = described(error, as_openai=True)
        failed = {"status": "failed", "error": {"code": body["code"], "message": body["message"]}}
        return self._event("response.failed", response=self._begun | failed)

    def _event(self, kind: str, **data: object) -> str:
        told = json.dumps({"type": kind, "sequence_number": self._number, **data}, ensure_ascii=False)
        self._number += 1
        return f"event: {kind}\ndata: {told}\n\n"
