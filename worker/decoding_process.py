"""The parent's side of one decoding process: start it, ask it, end it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InkqueueError
from worker.decoding_child import ANSWER, COUNT, IMAGE, MAX_MESSAGE_BYTES, READY, VERDICTS
from worker.recognizer import LinePixels

_START_TIMEOUT_S = 30.0
#: All of the environment that the process sees; the rest, passwords included, is none of its business.
_ENVIRONMENT = ("LD_LIBRARY_PATH",)


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """What a decoding process is asked to decode."""

    data: bytes
    max_pixels: int


class DecodingProcess:
    """One process that decodes images in turn.

    All methods but `interrupt` are for one thread, and that thread must outlive the process: the kernel ends the
    process with the thread that started it, also when that was killed.

    Args:
        memory_bytes: Address space that the process may take beyond what it starts with.
    """

    def __init__(self, *, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def ensure_started(self) -> OSError | MemoryError | None:
        """Start the process unless it runs; why that failed, if it did."""
        if self._process is not None and self._process.poll() is None:
            return None
        self.stop()
        try:
            self._start()
        except (OSError, MemoryError) as exc:
            self.stop()
            return exc
        return None

    def send(self, images: Sequence[ImageFile], *, timeout_s: float) -> None:
        """Ask for these images; then `receive` as many answers, in the same order.

        Raises:
            OSError: The process has ended, or takes nothing.
            MemoryError: This process has no memory to ask.
        """
        parts = [COUNT.pack(len(images))]
        for image in images:
            parts += (IMAGE.pack(len(image.data), image.max_pixels), image.data)
        connection = self._connection()
        connection.settimeout(timeout_s)
        connection.sendall(b"".join(parts))

    def receive(self, *, max_pixels: int, timeout_s: float) -> LinePixels | InkqueueError:
        """The next answer: pixels of shape (H, W, 3), or the verdict over the image.

        Raises:
            TimeoutError: It did not come whole within the time.
            ConnectionError: The process has ended, or talks nonsense.
            MemoryError: This process has no memory for the answer.
        """
        deadline_s = time.monotonic() + timeout_s
        header = self._read(ANSWER.size, deadline_s)
        verdict: int
        rows: int
        columns: int
        verdict, rows, columns = ANSWER.unpack(header)
        error = VERDICTS[verdict] if verdict < len(VERDICTS) else None
        if error is not None and rows <= MAX_MESSAGE_BYTES:
            return error(self._read(rows, deadline_s).decode(errors="replace"))
        if verdict or rows * columns > max_pixels:
            # An image may have taken that process over; it must not take this one's memory too.
            raise ConnectionError("the decoding process gave an answer that cannot be")
        pixels: LinePixels = np.empty((rows, columns, 3), dtype=np.uint8)
        self._fill(pixels.data.cast("B"), deadline_s)
        return pixels

    def interrupt(self) -> None:
        """End the process from another thread; whoever waits for an answer gets a ConnectionError."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        # Not multiprocessing: its spawn imports the parent's main module, and with it torch.
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; from worker.decoding_child import serve; "
            f"serve({os.getpid()}, {self._memory_bytes})"
        )
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                process_group=0,  # Ctrl-C is the parent's business
            )
        self._read(len(READY), time.monotonic() + _START_TIMEOUT_S)

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionError("there is no decoding process")
        return self._socket

    def _read(self, size: int, deadline_s: float) -> bytearray:
        received = bytearray(size)
        self._fill(memoryview(received), deadline_s)
        return received

    def _fill(self, view: memoryview, deadline_s: float) -> None:
        connection = self._connection()
        while view:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError("the decoding process takes too long")
            connection.settimeout(remaining_s)
            received = connection.recv_into(view)
            if not received:
                raise ConnectionError("the decoding process ended")
            view = view[received:]
