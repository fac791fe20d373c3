"""A chat completion piece by piece: OpenAI's chunks, out of what is settled of the text while it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from api.chat_schemas import ChatRequest, ChatUsageBody, LogprobsBody, chat_id, finish_reason
from api.openai_schemas import OcrBody, dumped, tier_told
from api.problems import described
from api.prompt_readings import ClientGone, Prompt, read_growing
from core.errors import InkqueueError
from core.readings import Reading

_DONE = "data: [DONE]\n\n"
_KEEP_ALIVE = ": still there\n\n"


def chat_stream(prompt: Prompt, request: ChatRequest, begun: Reading, is_there: Callable[[], bool]) -> Iterator[str]:
    """The chunks of one completion, as server-sent events.

    The tokens, for those who want their probabilities, come together after the text, as Postgres has them.

    Raises:
        RateLimited: Too many wait already.
    """
    pieces = read_growing(prompt, is_there)
    # Begun before the answer begins, while an error can still be one.
    next(pieces)
    return _events(pieces, _Chunks(request, begun))


def _events(pieces: Generator[str | None, None, Reading], chunks: _Chunks) -> Iterator[str]:
    try:
        yield chunks.content("", role="assistant")
        while True:
            piece = next(pieces)
            yield _KEEP_ALIVE if piece is None else chunks.content(piece)
    except StopIteration as end:
        yield from chunks.ending(end.value)
    except InkqueueError as error:
        _, body = described(error, as_openai=True)
        yield _event({"error": body})
    except ClientGone:
        return
    finally:
        pieces.close()


class _Chunks:
    """The chunks of one completion, which share what stands around their choices."""

    def __init__(self, request: ChatRequest, begun: Reading) -> None:
        self._request = request
        self._frame: dict[str, Any] = {
            "id": chat_id(begun.job_id),
            "object": "chat.completion.chunk",
            "created": int(begun.created_at.timestamp()),
            "model": begun.model,
            "service_tier": tier_told(request.service_tier),
            "system_fingerprint": None,
        }

    def content(self, text: str, **more: str) -> str:
        """A piece of the text."""
        return self._chunk({"content": text, **more})

    def ending(self, whole: Reading) -> Iterator[str]:
        """What follows the text: its tokens, why it ends, what it took."""
        if self._request.logprobs:
            yield self._chunk({}, logprobs=dumped(LogprobsBody.of(whole)))
        yield self._chunk({}, finish_reason=finish_reason(whole), ocr=dumped(OcrBody.of(whole)))
        if self._request.with_usage:
            yield _event(self._frame | {"choices": [], "usage": dumped(ChatUsageBody.of(whole))})
        yield _DONE

    def _chunk(
        self, delta: dict[str, str], *, logprobs: object = None, finish_reason: str | None = None, **more: object
    ) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._request.with_usage else {}
        return _event(self._frame | {"choices": [choice]} | usage | more)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
