"""A worker without Celery, around a recognizer of the test's own; Postgres and everything between are real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np

from core import leases
from core.errors import InvalidImage
from tests.domain import MODEL
from tests.fakes import SilentObserver
from worker.finisher import Finisher
from worker.lease import Heartbeat
from worker.live_texts import LiveTexts
from worker.recognizer import LinePixels, Recognizer
from worker.tickets import Tickets
from worker.transcription import Decoder, Transcription


class Brake:
    """Lets a recognizer make steps one by one."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self.steps = 0

    def allow(self, steps: int = 1) -> None:
        self._allowed.release(steps)

    def __call__(self) -> None:
        assert self._allowed.acquire(timeout=30)
        self.steps += 1


@contextmanager
def pumped(transcription: Transcription) -> Iterator[None]:
    """Start a pump whenever images wait, as tickets do."""
    ended = threading.Event()

    def pump() -> None:
        while not ended.wait(0.005):
            transcription.pumps.pump()

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def heartbeat_of(transcription: Transcription) -> Heartbeat:
    """The heartbeat of a worker of one model, for a test to beat."""
    return Heartbeat(transcription.worker_id, [transcription], Finisher(), Tickets([transcription.model]))


class FakeDecoder:
    """Gives every file the same line with ink, or an error."""

    def __init__(
        self, error: Exception | None = None, *, blank: bool = False, pixels: LinePixels | None = None
    ) -> None:
        self._error = error
        if pixels is None:
            pixels = np.full((4, 40, 3), 255, np.uint8)
            if not blank:
                pixels[1:3, 4:30:3] = 0
        self._pixels = pixels

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        assert data and max_pixels and urgency in range(3)
        future: Future[LinePixels] = Future()
        if self._error:
            future.set_exception(self._error)
        else:
            future.set_result(self._pixels)
        return future


class FlawedDecoder(FakeDecoder):
    """Decodes every image but the second."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        self._seen += 1
        decode = FakeDecoder(InvalidImage("truncated")).decode if self._seen == 2 else super().decode
        return decode(data, max_pixels=max_pixels, urgency=urgency)


@contextmanager
def worker_of(recognizer: Recognizer, decoder: Decoder | None = None, *, model: str = MODEL) -> Iterator[Transcription]:
    finisher = Finisher()
    live_texts = LiveTexts()
    transcription = Transcription(
        model,
        worker_id=leases.register([]),
        recognizer=recognizer,
        decoder=decoder or FakeDecoder(),
        finisher=finisher,
        live_texts=live_texts,
        observer=SilentObserver(),
    )
    finisher.start()
    live_texts.start()
    transcription.batcher.start()
    try:
        yield transcription
    finally:
        transcription.stop(grace_s=5)
        live_texts.close()
        assert finisher.close(timeout_s=10)
