"""Sends what is settled of watched lines, from a thread of its own: the device's must not wait for Redis."""

from __future__ import annotations

import threading

from core import live_text
from core.live_text import LiveText


class LiveTexts:
    """One thread; of what comes faster than Redis takes it, the newest of each line is sent."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._unsent: dict[str, LiveText] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="live texts", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def show(self, text: LiveText) -> None:
        """Have a text sent; returns at once."""
        with self._changed:
            self._unsent[text.image_id] = text
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; nobody waits for what is not sent yet."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while texts := self._next():
            live_text.send(texts)

    def _next(self) -> list[LiveText]:
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closed)
            texts, self._unsent = list(self._unsent.values()), {}
            return [] if self._closed else texts
