"""Lines that are encoded one by one in threads, some of them before they have rows, beside the steps of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from worker.recognizer import LinePixels, LineRequest


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A line whose encoding was begun before it was needed."""

    #: Held so that no other line's address is taken for this one's.
    line: LinePixels
    #: None where it failed.
    states: Future[Tensor | None]


class EncodedAhead:
    """Encodes lines that are needed now, and before them some that soon will be; two are the same only if they are one.

    Args:
        encode: Encodes a line; called in the pool's threads.
        pool: Begins what it is given in that order.
        most: How many lines are best begun before they are needed.
    """

    def __init__(self, encode: Callable[[LinePixels], Tensor], pool: ThreadPoolExecutor, *, most: int) -> None:
        self._encode = encode
        self._pool = pool
        #: How many lines are best begun before they are needed.
        self.most = most
        #: By the address of the line's pixels.
        self._begun: dict[int, _Begun] = {}
        #: What is not wanted any more and was under way.
        self._ending: list[Future[Tensor | None]] = []

    def want(self, requests: Sequence[LineRequest]) -> None:
        """Begin these lines where they are not begun, in this order, and drop all others."""
        self._drop_all_but(requests)
        for request in requests:
            line = request.pixels
            if id(line) not in self._begun:
                self._begun[id(line)] = _Begun(line=line, states=self._pool.submit(self._encoded_or_none, line))

    def keep(self, requests: Sequence[LineRequest]) -> None:
        """Begin none, and drop all but these lines, and of these what is not under way."""
        self._drop_all_but(requests)
        self.postpone()

    def forget(self) -> None:
        """Drop all lines, and wait for those that are under way."""
        self.keep([])
        self._let_end()

    def postpone(self) -> None:
        """Let what is begun but not under way be begun only when it is wanted next."""
        for address, begun in list(self._begun.items()):
            if begun.states.cancel():
                del self._begun[address]

    def has_begun(self, line: LinePixels) -> bool:
        """Whether a line is begun or encoded."""
        return id(line) in self._begun

    def encoded(self, lines: Sequence[LinePixels]) -> list[Tensor]:
        """Encode lines that are needed now, before all that are not under way.

        Raises:
            Exception: One of them could not be encoded; none of them is under way any more.
        """
        begun = [self._begun.pop(id(line), None) for line in lines]
        under_way = [None if one is None or one.states.cancel() else one.states for one in begun]
        if None in under_way:
            self.postpone()
        encodings: list[Future[Any]] = [
            self._pool.submit(self._encode, line) if states is None else states
            for line, states in zip(lines, under_way, strict=True)
        ]
        wait(encodings)
        return [
            self._again(line) if (states := encoding.result()) is None else states
            for line, encoding in zip(lines, encodings, strict=True)
        ]

    def _again(self, line: LinePixels) -> Tensor:
        """What failed beside steps and other lines may succeed by itself."""
        self.postpone()
        self._let_end()
        return self._pool.submit(self._encode, line).result()

    def _let_end(self) -> None:
        wait([*self._ending, *(begun.states for begun in self._begun.values())])
        self._ending = []

    def _drop_all_but(self, requests: Sequence[LineRequest]) -> None:
        kept = {id(request.pixels) for request in requests}
        dropped = [self._begun.pop(address).states for address in self._begun.keys() - kept]
        self._ending = [states for states in (*self._ending, *dropped) if not (states.cancel() or states.done())]

    def _encoded_or_none(self, line: LinePixels) -> Tensor | None:
        try:
            return self._encode(line)
        except Exception:
            return None
