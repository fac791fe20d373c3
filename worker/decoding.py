"""Pixels of untrusted files: a pool of processes of which each may crash, hang or starve without harming the others."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import structlog

from core.errors import InkqueueError, InvalidImage
from worker.decoding_process import DecodingProcess, ImageFile
from worker.recognizer import LinePixels

#: A request carries up to so many images or bytes, so that a small line does not pay for a round trip of its own.
_MAX_BATCH_IMAGES = 16
_MAX_BATCH_BYTES = 2**18

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True, order=True)
class _Job:
    #: Who is first: by urgency, then by age.
    place: tuple[int, int]
    file: ImageFile = field(compare=False)
    future: Future[LinePixels] = field(default_factory=Future, compare=False)
    #: Whether a process has already died over it; the first time may be an accident from outside.
    blamed: bool = field(default=False, compare=False)


class DecodingPool:
    """Turns image files into upright pixels in processes of their own; any thread may use it.

    concurrent.futures and loky give up the whole pool when one process dies, and pebble 5.2 when an idle one does;
    hence one thread here for each process, with a socket between the two.

    Args:
        processes: Processes, each of one core.
        timeout_s: Longest time for one image; then its process is ended and another started.
        memory_bytes: Address space that a process may take beyond what it starts with.
    """

    def __init__(self, *, processes: int, timeout_s: float, memory_bytes: int) -> None:
        self._timeout_s = timeout_s
        #: A heap.
        self._waiting: list[_Job] = []
        self._ages = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._processes = [DecodingProcess(memory_bytes=memory_bytes) for _ in range(processes)]
        self._threads = [
            threading.Thread(target=self._serve, args=(process,), name=f"decoding-{index}", daemon=True)
            for index, process in enumerate(self._processes)
        ]
        for thread in self._threads:
            thread.start()

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        """Begin to decode one image file; many may wait, and each result comes as soon as it is there.

        Args:
            data: The whole file.
            max_pixels: Most pixels, width x height.
            urgency: Smaller numbers are decoded first.

        Returns:
            Its pixels, uint8 RGB of shape (H, W, 3), upright, origin top left; a picture of more than 6 megapixels is
            reduced by a whole factor. Or it raises InvalidImage (damaged, over
            the time or memory allowed, or a crash of its process), UnsupportedImage or ImageTooLarge; CancelledError
            when the pool was closed; OSError when no process starts, and MemoryError when this one has no memory left,
            which are not the image's fault; InkqueueError itself for what nobody thought of.

        Raises:
            RuntimeError: The pool is closed.
        """
        file = ImageFile(data=data, max_pixels=max_pixels)
        job = _Job(place=(urgency, next(self._ages)), file=file)
        with self._changed:
            if self._closed:
                raise RuntimeError("the decoding pool is closed")
            heapq.heappush(self._waiting, job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """End the processes; what is not decoded by now is cancelled."""
        with self._changed:
            self._closed = True
            waiting = [*self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
        _cancel(waiting)
        for process in self._processes:
            process.interrupt()
        for thread in self._threads:
            thread.join()

    def _serve(self, process: DecodingProcess) -> None:
        while True:
            failure = _failed_start(process)
            batch = self._take()
            if not batch:
                break
            if failure is None:
                self._decode(process, batch)
            else:
                for job in batch:
                    job.future.set_exception(failure)
        process.stop()

    def _take(self) -> Sequence[_Job]:
        """Wait for one process's fair share of what there is; empty when the pool is closed."""
        batch: list[_Job] = []
        size = 0
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    break
                share = min(_MAX_BATCH_IMAGES, -(-len(self._waiting) // len(self._processes)))
                while self._waiting and len(batch) < share and size < _MAX_BATCH_BYTES:
                    job = heapq.heappop(self._waiting)
                    if job.future.running() or job.future.set_running_or_notify_cancel():
                        batch.append(job)
                        size += len(job.file.data)
        return batch

    def _decode(self, process: DecodingProcess, batch: Sequence[_Job]) -> None:
        undecided = deque(batch)
        try:
            process.send([job.file for job in batch], timeout_s=self._timeout_s)
            while undecided:
                answer = process.receive(max_pixels=undecided[0].file.max_pixels, timeout_s=self._timeout_s)
                _settle(undecided.popleft(), answer)
            return
        except TimeoutError:
            slow = InvalidImage(f"the image takes more than {self._timeout_s:g} s to decode")
            _settle(undecided.popleft(), slow)
        except OSError:
            if undecided[0].blamed and not self._closed:
                _settle(undecided.popleft(), InvalidImage("the image is damaged: it crashes the decoder"))
            else:
                undecided[0].blamed = True
        except MemoryError as exc:
            # It is the worker that lacks memory, not its decoding process that ran over what it may have: the image may
            # fit later.
            undecided.popleft().future.set_exception(exc)
        except Exception:
            # Outer edge of the thread: whoever waits for an image would wait for ever for a thread that has ended.
            _settle(undecided.popleft(), _unforeseen())
        # Whatever is still to come of this request must not answer the next one.
        process.stop()
        self._give_back(undecided)

    def _give_back(self, jobs: Sequence[_Job]) -> None:
        with self._changed:
            if not self._closed:
                for job in jobs:
                    heapq.heappush(self._waiting, job)
                self._changed.notify_all()
                return
        _cancel(jobs)


def _failed_start(process: DecodingProcess) -> Exception | None:
    """Start the process unless it runs; what its images come to if that failed."""
    try:
        return process.ensure_started()
    except Exception:
        # Outer edge of the thread, as in `_decode`.
        process.stop()
        return _unforeseen()


def _unforeseen() -> InkqueueError:
    """What an image comes to by the exception that is being handled, which nobody thought of."""
    _log.exception("an image could not be decoded")
    return InkqueueError("the image could not be decoded")


def _settle(job: _Job, answer: LinePixels | InkqueueError) -> None:
    if isinstance(answer, InkqueueError):
        job.future.set_exception(answer)
    else:
        job.future.set_result(answer)


def _cancel(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if not job.future.cancel():
            job.future.set_exception(CancelledError())
