"""The first line that a fresh service reads: the sample, through its own HTTP API, as any client would."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

#: The line of the README, and of the curl line that `inkqueue up` prints.
SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "data" / "line.jpg"

#: One long poll, seconds; half as long again is the budget of each request.
_WAIT_S = 20
_QUICK_S = 3.0

#: No proxy of the environment: this is a process on the same machine.
_open = build_opener(ProxyHandler({})).open


class SampleNotRead(Exception):
    """The service is up, but did not read the sample; the message says why."""


@dataclass(frozen=True, kw_only=True)
class FirstLine:
    """What the service read."""

    text: str
    #: From the request to the text, by the caller's clock.
    seconds: float
    model: str
    #: Where to poll the job: an absolute path.
    path: str


def what_is_missing(address: str) -> str | None:
    """Why the service is not ready, in a few words; None when it is."""
    try:
        with _open(f"{address}/readyz", timeout=_QUICK_S) as answer:
            degraded = json.load(answer).get("degraded", [])
    except HTTPError as error:
        with error:
            return "the API answers, but cannot store a job yet"
    except (OSError, HTTPException, ValueError):
        return "the API does not answer yet"
    return f"not ready yet: {', '.join(degraded)}" if degraded else None


def read_first_line(address: str, key: str, image: Path = SAMPLE, *, within_s: float = 120.0) -> FirstLine:
    """Post an image and poll its text.

    Raises:
        SampleNotRead: The service refused it, failed at it, or was not done in time.
    """
    began = time.monotonic()
    job = _ask(f"{address}/v1/jobs", key, image)
    path = str(job["urls"]["self"])
    while job["status"] in {"queued", "running"}:
        if time.monotonic() > began + within_s:
            raise SampleNotRead(f"after {within_s:.0f} s its job {job['id']} is still {job['status']}")
        job = _ask(f"{address}{path}?wait={_WAIT_S}", key)
    seconds = time.monotonic() - began
    if job["status"] != "succeeded":
        raise SampleNotRead(f"its job {job['id']} is {job['status']}: {_why(job)}")
    return FirstLine(text=job["text"], seconds=seconds, model=job["model"], path=path)


def _ask(url: str, key: str, image: Path | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/jpeg"}
    try:
        body = image.read_bytes() if image else None
        with _open(Request(url, body, headers), timeout=_WAIT_S * 1.5) as answer:
            return _object(answer)
    except HTTPError as error:
        with error:
            raise SampleNotRead(f"{error.code} {error.read(500).decode(errors='replace')}") from error
    except (URLError, OSError, HTTPException) as error:
        raise SampleNotRead(str(error)) from error


def _object(answer: HTTPResponse) -> dict[str, Any]:
    job: dict[str, Any] = json.load(answer)
    return job


def _why(job: dict[str, Any]) -> str:
    errors = [job["error"], *(image["error"] for image in job["images"])]
    return next((error["message"] for error in errors if error), "no reason is given")
