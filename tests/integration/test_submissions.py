"""Submissions that come at the same time: taken in one transaction, and judged each by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError
from structlog.testing import CapturingLogger

from core import identification, intake
from core.accounts import Caller, KeyTerms
from core.database import looking, transaction
from core.errors import (
    Contended,
    IdempotencyConflict,
    InkqueueError,
    InsufficientCredits,
    KeyBudgetExceeded,
    RateLimited,
    Unavailable,
)
from core.idempotency import AlreadySubmitted, Once
from core.ids import new_id
from core.images import inspect_image
from core.job_rows import JobToBe
from core.job_views import JobView, job_view
from core.new_jobs import NewImage, NewJob
from core.origin import Origin
from core.queue import waiting_tickets
from core.settings import settings
from core.states import Mode, Priority
from core.storage import image_store
from core.submissions import Submission, take
from tests.domain import MODEL, assert_ledger_balances, new_caller, new_key, png, rows
from tests.standby import standing_by
from tests.waiting import wait_until

PICTURE = png()


def new_job(
    lines: int = 1,
    *,
    priority: Priority = Priority.NORMAL,
    model: str = MODEL,
    metadata: Mapping[str, str] | None = None,
) -> NewJob:
    image = NewImage(data=PICTURE, header=inspect_image(PICTURE, max_bytes=10**7, max_pixels=10**7), key="line")
    return NewJob(
        model=model, mode=Mode.LINE, priority=priority, max_lines=1, metadata=metadata or {}, images=[image] * lines
    )


def submission(caller: Caller, new: NewJob | None = None, *, once: Once | None = None) -> Submission:
    new = new or new_job()
    image_ids = [new_id("img") for _ in new.images]
    job = JobToBe(
        id=new_id("job"), image_ids=image_ids, caller=caller, new=new, price=new.price, origin=Origin(request_id="r")
    )
    return Submission(job=job, once=once)


def outcomes(taken: list[JobView | InkqueueError]) -> list[str]:
    return [each.status.value if isinstance(each, JobView) else each.code for each in taken]


def stored_jobs() -> set[str]:
    return {key.split("/")[1] for key in image_store(settings()).list("images")}


def holder(key: str) -> Caller:
    with looking() as connection:
        return identification.caller_of(connection, key)


def test_those_that_an_account_can_pay_for_are_taken_and_the_others_cost_nobody_anything() -> None:
    poor, rich = new_caller("poor", grant_credits=3), new_caller("rich")
    together = [submission(poor, new_job(2)), submission(rich), submission(poor, new_job(2)), submission(poor)]
    taken = take(together)
    assert outcomes(taken) == ["queued", "queued", InsufficientCredits.code, "queued"]
    held = rows("SELECT name, held_micro FROM accounts ORDER BY name")
    assert held == [("poor", 3_000_000), ("rich", 1_000_000)]
    assert set(rows("SELECT id FROM jobs")) == {(each.job.id,) for each in (together[0], *together[1::2])}
    assert_ledger_balances()


def test_a_keys_cap_and_its_limits_count_what_comes_with_a_job() -> None:
    capped = holder(new_key(terms=KeyTerms(monthly_cap_micro=2_000_000)))
    one_job = holder(new_key(terms=KeyTerms(limits={"jobs_in_flight": 1})))
    two_files = holder(new_key(terms=KeyTerms(limits={"stored_bytes": 2 * len(PICTURE)})))
    together = [submission(caller) for caller in (capped, one_job, two_files) for _ in range(3)]
    assert outcomes(take(together)) == [
        *("queued", "queued", KeyBudgetExceeded.code),
        *("queued", RateLimited.code, RateLimited.code),
        *("queued", "queued", RateLimited.code),
    ]
    assert rows("SELECT stored_bytes, held_micro FROM accounts") == [(5 * len(PICTURE), 5_000_000)]
    of_keys = rows("SELECT stored_bytes, held_micro FROM api_keys ORDER BY created_at")
    assert of_keys == [(len(PICTURE) * jobs, 1_000_000 * jobs) for jobs in (2, 1, 2)]
    assert_ledger_balances()


def test_the_same_submission_twice_is_taken_once() -> None:
    caller = new_caller()
    once = Once(key="POST a", fingerprint=b"same")
    first, second = submission(caller, once=once), submission(caller, once=once)
    taken, again, other = take([first, second, submission(caller, once=replace(once, fingerprint=b"other"))])
    assert isinstance(taken, JobView) and isinstance(again, AlreadySubmitted)
    assert again.earlier.job_id == taken.id == first.job.id
    assert isinstance(other, IdempotencyConflict)
    assert rows("SELECT count(*) FROM jobs") == [(1,)]


def test_a_refused_submission_leaves_its_key_free() -> None:
    caller = new_caller(grant_credits=1)
    once = Once(key="POST a", fingerprint=b"same")
    assert outcomes(take([submission(caller), submission(caller, once=once)])) == ["queued", InsufficientCredits.code]
    assert rows("SELECT * FROM idempotency_keys") == []


def test_the_answer_shows_the_job_as_a_look_at_it_does() -> None:
    caller = new_caller()
    urgent = new_job(priority=Priority.INTERACTIVE, metadata={"b": "1", "a": "2"})
    take([submission(caller, new_job(2)), submission(caller, new_job(model="another"))])
    together = [
        submission(caller, new_job(3)),
        submission(caller, replace(urgent, deadline_s=60.0, retry_of="job_before")),
        submission(caller, new_job(priority=Priority.BULK)),
    ]
    taken = take(together)
    assert [view.queue_position for view in taken if isinstance(view, JobView)] == [2, 0, 6]
    # Those before the first one: one that came with it, and more urgent, came after it.
    with looking() as connection:
        looked = [job_view(connection, caller, each.job.id) for each in together]
    assert [replace(view, queue_position=None) for view in taken if isinstance(view, JobView)] == [
        replace(view, queue_position=None) for view in looked
    ]
    assert [view.queue_position for view in looked] == [3, 0, 6]


def test_an_answer_is_written_as_a_look_at_the_job_is(http: FlaskClient) -> None:
    http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {new_key()}"
    files = [(io.BytesIO(PICTURE), f"{number}.png") for number in range(102)]
    body = {"image": files, "metadata": '{"bb": "1", "a": "2"}', "deadline_s": "60"}
    posted = http.post("/v1/jobs", data=body)
    assert posted.status_code == 202
    looked = http.get(posted.headers["Location"])
    assert (posted.get_data(), posted.headers["ETag"]) == (looked.get_data(), looked.headers["ETag"])


def test_of_one_key_the_widest_limit_says_how_far_is_counted() -> None:
    now = holder(new_key(terms=KeyTerms(limits={"jobs_in_flight": 2})))
    assert outcomes(take([submission(now), submission(now)])) == ["queued", "queued"]
    for limits in ({}, {"jobs_in_flight": 1}):
        before = replace(now, limits=limits)
        taken = take([submission(now), submission(before)])
        assert isinstance(taken[0], RateLimited)


def test_images_wait_in_the_order_in_which_they_were_submitted() -> None:
    together = [submission(new_caller(name), new_job(20)) for name in ("a", "b", "a")]
    take(together)
    in_order = rows("SELECT id FROM images ORDER BY sequence")
    assert in_order == [(image_id,) for each in together for image_id in each.job.image_ids]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many submissions each transaction was begun for; the first one waits as long as it must."""
    sizes: list[int] = []

    def counted(together: Sequence[Submission], **how: Any) -> list[JobView | InkqueueError]:
        sizes.append(len(together))
        return take(together, **how) if len(sizes) > 1 else take(together)

    monkeypatch.setattr("core.submissions.take", counted)
    monkeypatch.setattr(intake.turns, "patience_s", 20.0)
    return sizes


@contextmanager
def held(account: str) -> Iterator[Connection]:
    """Somebody else holds an account while the block lasts, or until it is rolled back."""
    with transaction() as connection:
        connection.execute(text("SELECT FROM accounts WHERE name = :name FOR UPDATE"), {"name": account})
        yield connection


def submitted_together(
    threads: ThreadPoolExecutor, groups: list[int], jobs: Sequence[tuple[Caller, NewJob]]
) -> list[Future[JobView]]:
    """The first has its turn while the others come; somebody holds its account."""
    first = threads.submit(intake.submit, *jobs[0])
    wait_until(lambda: groups == [1])
    others = [threads.submit(intake.submit, *job) for job in jobs[1:]]
    wait_until(lambda: intake.turns.waiting == len(others))
    return [first, *others]


def test_what_is_a_defect_to_the_database_fails_alone(groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(intake, "_log", log)
    callers = [new_caller(f"account {number}") for number in range(4)]
    before = stored_jobs()
    metadata: list[Mapping[str, str]] = [{}, {}, {"no text": "Dupont \0"}, {}]
    jobs = [(caller, new_job(metadata=each)) for caller, each in zip(callers, metadata, strict=True)]
    with ThreadPoolExecutor(4) as threads, held("account 0") as holder_:
        asked = submitted_together(threads, groups, jobs)
        holder_.rollback()
        taken = {asked[place].result(10).id for place in (0, 1, 3)}
        assert isinstance(asked[2].exception(10), DataError)
    assert groups == [1, 3, 1, 1, 1]
    assert {job_id for (job_id,) in rows("SELECT id FROM jobs")} == stored_jobs() - before == taken
    (told,) = log.calls
    assert (told.kwargs["error"], len(taken & set(told.kwargs["jobs"]))) == ("DataError", 2)
    assert "Dupont" not in str(told)


def test_workers_are_woken_once_for_all_that_were_taken_together(groups: list[int]) -> None:
    callers = [new_caller(f"account {number}") for number in range(3)]
    jobs = [(callers[0], new_job(model="another")), *((caller, new_job(9)) for caller in callers[1:])]
    with (
        ThreadPoolExecutor(3) as threads,
        standing_by(MODEL, "another", workers=3) as woken,
        held("account 0") as holder_,
    ):
        asked = submitted_together(threads, groups, jobs)
        holder_.rollback()
        for each in asked:
            each.result(10)
        wait_until(lambda: len(woken) == 3)
    assert groups == [1, 2]
    assert sorted(woken) == sorted(["another", MODEL, MODEL])  # 9 + 9 = 16 + 2
    assert not waiting_tickets(MODEL)


def test_an_account_that_others_hold_holds_up_nobody_else() -> None:
    slow, *others = (new_caller(name) for name in ("slow", "a", "b"))
    with ThreadPoolExecutor(6) as threads, held("slow") as holder_:
        # It is held up in a turn that it has alone, and then in one that it shares.
        waits = [threads.submit(intake.submit, slow, new_job()) for _ in range(2)]
        for _ in range(2):
            took = [threads.submit(intake.submit, caller, new_job()) for caller in others]
            assert all(each.result(5).status == "queued" for each in took)
        assert not any(each.done() for each in waits)
        holder_.rollback()
        assert all(each.result(10).status == "queued" for each in waits)
    assert_ledger_balances()


def test_many_who_wait_for_one_account_leave_the_database_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake.turns, "patience_s", 0.05)
    slow, other = new_caller("slow"), new_caller("other")
    with ThreadPoolExecutor(40) as threads, held("slow") as holder_:
        waits = [threads.submit(intake.submit, slow, new_job()) for _ in range(40)]
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: rows(blocked) == [(1,)] and intake.turns.waiting == 0)
        assert intake.submit(other, new_job()).status == "queued"
        holder_.rollback()
        assert all(each.result(10).status == "queued" for each in waits)
    assert_ledger_balances()


def test_who_comes_with_one_that_is_held_up_is_taken_at_once(groups: list[int]) -> None:
    first, slow, other = (new_caller(name) for name in ("first", "slow", "other"))
    with ThreadPoolExecutor(4) as threads, held("slow") as still_held, held("first") as holder_:
        asked = submitted_together(threads, groups, [(caller, new_job()) for caller in (first, slow, other)])
        holder_.rollback()
        assert [asked[place].result(5).status for place in (0, 2)] == ["queued", "queued"]
        assert not asked[1].done()
        still_held.rollback()
        assert asked[1].result(10).status == "queued"
    assert groups == [1, 2, 1, 1]


def test_an_account_that_is_held_for_too_long_is_told_so_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    before = stored_jobs()
    monkeypatch.setattr("core.submissions.transaction", lambda **_: transaction(patient=False))
    with held("archive"), pytest.raises(Contended, match="hold"):
        intake.submit(caller, new_job())
    assert stored_jobs() == before
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


def test_when_the_database_goes_each_is_told_so(groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    callers = [new_caller(f"account {number}") for number in range(3)]
    with ThreadPoolExecutor(3) as threads, held("account 0") as holder_:
        asked = submitted_together(threads, groups, [(caller, new_job()) for caller in callers])

        def gone(**_: object) -> Any:
            raise Unavailable("the database went away")

        monkeypatch.setattr("core.submissions.transaction", gone)
        holder_.rollback()
        assert asked[0].result(10).status == "queued"
        refusals = [each.exception(10) for each in asked[1:]]
    assert groups == [1, 2]
    assert [str(each) for each in refusals] == ["the database went away"] * 2
    assert refusals[0] is not refusals[1]


def test_an_account_that_cannot_pay_does_not_keep_others_from_being_answered(http: FlaskClient) -> None:
    poor = {"Authorization": f"Bearer {new_key('poor')}"}
    rich = {"Authorization": f"Bearer {new_key('rich')}"}
    new_caller("poor", grant_credits=1)
    body = {"Content-Type": "image/png"}

    def submit(key: Mapping[str, str]) -> int:
        return http.application.test_client().post("/v1/jobs", data=PICTURE, headers={**key, **body}).status_code

    with ThreadPoolExecutor(12) as threads:
        statuses = list(threads.map(submit, [poor, rich] * 6))
    assert sorted(statuses[::2]) == [202, 402, 402, 402, 402, 402]
    assert statuses[1::2] == [202] * 6
    assert_ledger_balances()
