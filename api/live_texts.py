"""The texts of lines while they are read, heard from the workers by the streams of this process."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache

from core.live_text import LiveText
from core.notices import TEXT_SETTLED, Listener


class Ear:
    """One stream's: woken by changes of its job, and by what is settled of its texts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._texts: dict[str, LiveText] = {}
        self._job_changed = False
        self._text_changed = False

    def set(self) -> None:
        """The job has changed."""
        with self._changed:
            self._job_changed = True
            self._changed.notify_all()

    def hear(self, text: LiveText) -> None:
        """Take what is newer than what was heard: a later attempt, or more of the same one."""
        with self._changed:
            known = self._texts.get(text.image_id)
            if known is not None and (text.attempt, len(text.text)) <= (known.attempt, len(known.text)):
                return
            self._texts[text.image_id] = text
            self._text_changed = True
            self._changed.notify_all()

    def text_of(self, image_id: str) -> str:
        """How the text of an image begins, as far as was heard."""
        with self._changed:
            known = self._texts.get(image_id)
            return known.text if known else ""

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is heard; whether it was a change of the job."""
        with self._changed:
            self._changed.wait_for(lambda: self._job_changed or self._text_changed, timeout_s)
            job_changed, self._job_changed, self._text_changed = self._job_changed, False, False
            return job_changed


class LiveTexts:
    """All ears of this process, served by one listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, list[Ear]] = defaultdict(list)
        self._listener = Listener(TEXT_SETTLED, self._heard)

    def start(self) -> None:
        """Begin to hear."""
        self._listener.start()

    def close(self) -> None:
        """Stop."""
        self._listener.stop()

    @contextmanager
    def heard_by(self, ear: Ear, image_ids: Collection[str]) -> Iterator[None]:
        """Tell an ear of these images while the block lasts; since each notice holds the whole text, it misses none."""
        with self._lock:
            for image_id in image_ids:
                self._ears[image_id].append(ear)
        try:
            yield
        finally:
            with self._lock:
                for image_id in image_ids:
                    self._ears[image_id].remove(ear)
                    if not self._ears[image_id]:
                        del self._ears[image_id]

    def _heard(self, notice: str) -> None:
        text = LiveText.of(notice)
        with self._lock:
            ears = list(self._ears.get(text.image_id, ()))
        for ear in ears:
            ear.hear(text)


@lru_cache(maxsize=1)
def live_texts() -> LiveTexts:
    """The ears of this process, heard from the first request on (a listener's thread would not survive a fork)."""
    texts = LiveTexts()
    texts.start()
    return texts
