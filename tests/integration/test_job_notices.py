from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import CapturingLogger

from api import waiting
from api.waiting import job_waits
from core import claims, notices, outcomes
from core.accounts import Caller
from core.jobs import cancel
from core.redis_address import redis_client
from core.states import Status
from core.webhook_events import EventType
from core.webhooks import JobWebhook
from tests.domain import MODEL, new_caller, read, submit_lines
from tests.waiting import wait_until


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of notices of jobs, in their order; they are sent all the same."""
    words: list[str] = []
    notify = notices.notify

    def note(channel: str, ids: Collection[str]) -> None:
        if channel == notices.JOB_CHANGED:
            words.extend(ids)
        notify(channel, ids)

    monkeypatch.setattr(notices, "notify", note)
    return words


@pytest.mark.usefixtures("webhooks_to_here")
def test_couriers_are_told_where_there_is_a_webhook_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(notices, "notify", lambda channel, words: told.extend([channel] if words else []))
    caller = new_caller()
    submit_lines(caller)
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=1)])
    assert told == [notices.JOB_CHANGED] * 2
    told.clear()
    started = JobWebhook(url="https://example.org/hook", events=(EventType.STARTED, EventType.COMPLETED))
    submit_lines(caller, webhook=started)
    (found,) = claims.claim("wrk_1", MODEL, most=1)
    assert told == [notices.JOB_CHANGED, notices.WEBHOOKS_DUE]
    outcomes.finish([read(found)])
    assert told == [notices.JOB_CHANGED, notices.WEBHOOKS_DUE] * 2


def hear_notices() -> None:
    """Return when this process hears notices."""
    heard = threading.Event()

    def is_heard() -> bool:
        notices.notify(notices.JOB_CHANGED, ["job_nobodys"])
        return heard.wait(0.05)

    with job_waits().waking("job_nobodys", heard):
        wait_until(is_heard)


def test_notices_tell_whether_a_job_goes_on(told: list[str]) -> None:
    job_id = submit_lines(new_caller(), 2)
    first, second = claims.claim("wrk_1", MODEL, most=2)
    outcomes.finish([read(first)])
    outcomes.finish([read(second)])
    assert told == [f"{job_id}+", f"{job_id}+", job_id]


def test_a_job_that_is_canceled_is_told_to_have_ended(told: list[str]) -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    cancel(caller, job_id)
    assert told == [job_id]


def test_who_waits_for_a_jobs_end_looks_at_it_before_and_after_and_not_between(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Status] = []
    look = waiting._read

    def noting(caller: Caller, job_id: str) -> tuple[int, Status]:
        version, status = look(caller, job_id)
        looks.append(status)
        return version, status

    monkeypatch.setattr(waiting, "_read", noting)
    monkeypatch.setattr(waiting, "RECHECK_S", 60.0)
    hear_notices()
    told.clear()
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    with ThreadPoolExecutor(2) as threads:
        end = threads.submit(job_waits().wait, caller, job_id, timeout_s=20)
        wait_until(lambda: looks == [Status.QUEUED])
        change = threads.submit(job_waits().wait, caller, job_id, timeout_s=20, done=lambda version, _: version > 1)
        wait_until(lambda: len(looks) == 2)
        first, second = claims.claim("wrk_1", MODEL, most=2)
        # Heard by the same thread before: whoever waits for the end would have been woken by then.
        assert change.result()
        outcomes.finish([read(first), read(second)])
        assert end.result()
    assert looks == [Status.QUEUED, Status.QUEUED, Status.RUNNING, Status.SUCCEEDED]
    assert told == [f"{job_id}+", job_id]


def test_a_word_that_cannot_be_dealt_with_does_not_make_deaf() -> None:
    heard: list[str] = []

    def hear(word: str) -> None:
        if word == "bad":
            raise KeyError(word)
        heard.append(word)

    listener = notices.Listener("inkqueue:test", hear)
    listener.start()
    try:
        wait_until(lambda: redis_client().pubsub_numsub("inkqueue:test")[0][1])
        notices.notify("inkqueue:test", ["one", "bad", "two"])
        notices.notify("inkqueue:test", ["three"])
        wait_until(lambda: heard == ["one", "two", "three"])
    finally:
        listener.stop()


def test_a_connection_that_falls_silent_is_given_up_and_one_on_which_nothing_is_said_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bound, seconds in (("_LOOK_S", 0.02), ("_SIGN_AFTER_S", 0.05), ("_SILENT_S", 1.0), ("_RECONNECT_S", 0.02)):
        monkeypatch.setattr(notices, bound, seconds)
    log = CapturingLogger()
    monkeypatch.setattr(notices, "_log", log)
    listener = notices.Listener("inkqueue:test", lambda _: None)

    def told() -> list[str]:
        return [call.args[0] for call in log.calls if call.kwargs["channel"] == "inkqueue:test"]

    def pings() -> int:
        return int(redis_client().info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])

    listener.start()
    try:
        wait_until(lambda: redis_client().pubsub_numsub("inkqueue:test")[0][1])
        before = pings()
        wait_until(lambda: pings() > before + 30)  # 1.5 s
        assert told() == []
        redis_client().client_pause(2000)
        wait_until(lambda: told() == ["notices are not heard until Redis is back", "notices are heard again"])
    finally:
        listener.stop()
