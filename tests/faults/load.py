"""A steady load of small jobs, from clients that do what a client should: send a submission until it is accepted."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.service import Service

CLIENTS = 3
#: From one submission of a client to its next, and from a refused one to the same again, seconds.
_PACE_S = 0.7
_AGAIN_S = 0.1
#: Jobs of one client that have not ended: with more, it waits, so that a slow machine is not buried.
_MOST_OPEN = 6
#: Answers after which a client sends the same again: it is just being taken, or the service cannot take it now.
_NOT_NOW = {(409, "idempotency_in_progress"), (503, "unavailable")}

#: A file and its name.
ImageFile = tuple[str, bytes]


@dataclass(eq=False)
class Submission:
    """One job as a client asks for it, again and again under one key."""

    number: int
    files: Sequence[ImageFile]
    job_id: str | None = None
    #: Set with the job's id.
    accepted: threading.Event = field(default_factory=threading.Event)


class Load:
    """Clients of one service; after a restart it may have another address."""

    def __init__(self, service: Service, files: Sequence[ImageFile], *, webhook_url: str) -> None:
        self.service = service
        self.submissions: list[Submission] = []
        #: Answers that no client should get, whatever fails behind the API.
        self.unexpected: list[str] = []
        #: Answers that told a client to come again: status and code.
        self.refusals: list[tuple[int, str]] = []
        self._files = files
        self._webhook_url = webhook_url
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._http = httpx.Client(headers=service.http.headers, timeout=15)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Keep submitting while the block lasts; at its end every submission that was begun is accepted."""
        stopped = threading.Event()
        clients = [threading.Thread(target=self._submit_until, args=(stopped,), daemon=True) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            stopped.set()
            for client in clients:
                client.join(60)
        assert not any(client.is_alive() for client in clients), "a submission was refused for too long"

    def submit(self, *files: ImageFile) -> Submission:
        """Submit one job more, of these files, and come back when it is accepted."""
        with self._lock:
            submission = Submission(next(self._numbers), files)
            self.submissions.append(submission)
        while not self._is_accepted(submission) and not self._ended.wait(_AGAIN_S):
            pass
        return submission

    def close(self) -> None:
        """Send nothing any more."""
        self._ended.set()
        self._http.close()

    def _submit_until(self, stopped: threading.Event) -> None:
        own: deque[Submission] = deque()
        while not stopped.wait(_PACE_S):
            if len(own) < _MOST_OPEN:
                own.append(self.submit(*self._files))
            elif self._has_ended(own[0]):
                own.popleft()

    def _is_accepted(self, submission: Submission) -> bool:
        answer = self._answer(
            "POST",
            "/v1/jobs",
            files=[("image", file) for file in submission.files],
            data={"webhook_url": self._webhook_url},
            headers={"Idempotency-Key": f"submission-{submission.number}"},
        )
        if answer is None:
            return False
        submission.job_id = answer["id"]
        submission.accepted.set()
        return True

    def _has_ended(self, submission: Submission) -> bool:
        job = self._answer("GET", f"/v1/jobs/{submission.job_id}")
        return job is not None and job["status"] not in ("queued", "running")

    def _answer(self, method: str, path: str, **request: Any) -> dict[str, Any] | None:
        """The answer's body; None where the client has to come again."""
        try:
            answer = self._http.request(method, self.service.http.base_url.join(path), **request)
        except httpx.TransportError:
            return None
        body: dict[str, Any] = answer.json()
        if answer.is_success:
            return body
        refusal = (answer.status_code, body["error"]["code"])
        self.refusals.append(refusal)
        if refusal not in _NOT_NOW:
            self.unexpected.append(answer.text)
        return None
