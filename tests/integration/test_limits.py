from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from redis import Redis
from sqlalchemy import text
from werkzeug.test import TestResponse

from core import claims, outcomes
from core.accounts import KeyTerms
from core.admission import QueueWatch, queue_watch
from core.database import transaction
from core.errors import QueueFull, RateLimited
from core.jobs import delete_job
from core.queue import celery_app
from core.redis_address import Patience, redis_client, redis_patience
from core.settings import Settings, settings
from core.states import Priority
from tests.clocks import Clock
from tests.domain import MODEL, new_caller, new_key, png, read, rows, submit_lines

PICTURE = png()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Settings that a test may change, by their field, before its first request."""
    changed: dict[str, int] = {}
    usual = settings()

    def limited() -> Settings:
        return usual.model_copy(update=changed)

    for module in ("api.rate_limits", "core.admission", "core.standings"):
        monkeypatch.setattr(f"{module}.settings", limited)
    yield changed


def key_of(account: str = "archive", limits: Mapping[str, int] | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key(account, KeyTerms(limits=limits or {}))}"}


def submit(http: FlaskClient, key: dict[str, str], lines: int = 1) -> TestResponse:
    files = [(io.BytesIO(PICTURE), f"{index}.png") for index in range(lines)]
    return http.post("/v1/jobs", data={"image": files}, headers=key)


def look(http: FlaskClient, key: dict[str, str]) -> TestResponse:
    return http.get("/v1/credits", headers=key)


def assert_refused(answer: TestResponse, code: str = "rate_limited") -> None:
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (429, code)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_the_headers_count_down_to_the_refusal(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["requests_per_minute"] = 3
    key = key_of()
    answers = [look(application, key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=60'
    assert re.fullmatch(r'"requests";r=2;t=(59|60)', answers[0].headers["RateLimit"])
    assert_refused(answers[3])


def test_a_key_has_limits_of_its_own_below_the_accounts(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["requests_per_minute"] = 5
    narrow, wide = key_of(limits={"requests_per_minute": 2}), key_of()
    assert [look(application, narrow).status_code for _ in range(3)] == [200, 200, 429]
    assert [look(application, wide).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert look(application, key_of("stranger")).status_code == 200


def test_what_the_account_refuses_is_not_counted_for_the_key(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["lines_per_minute"] = 3
    key = key_of(limits={"lines_per_minute": 4})
    assert submit(application, key, 2).headers["x-ratelimit-remaining-lines"] == "1"
    refused = submit(application, key, 2)
    assert_refused(refused)
    assert refused.get_json()["error"]["message"].startswith("this account may send 3 lines a minute; try again in")
    assert redis_client().hget(counter("lines", "key"), "current") == b"2"


def test_what_is_more_than_a_limit_is_told_so(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["lines_per_minute"] = 3
    refused = submit(application, key_of(limits={"lines_per_minute": 2}), 3)
    assert_refused(refused)
    assert refused.get_json()["error"]["message"] == "this key may send 2 lines a minute; send fewer at once"


def test_of_two_limits_that_refuse_the_one_that_refuses_for_longer_is_told(
    application: FlaskClient, limits: dict[str, int]
) -> None:
    limits["lines_per_minute"] = 10
    wide, narrow = key_of(), key_of(limits={"lines_per_minute": 4})
    submit(application, wide, 9)
    never = submit(application, narrow, 5).get_json()["error"]["message"]
    assert never == "this key may send 4 lines a minute; send fewer at once"
    never_either = submit(application, key_of(limits={"lines_per_minute": 12}), 13).get_json()["error"]["message"]
    assert never_either == "this account may send 10 lines a minute; send fewer at once"
    later = submit(application, narrow, 2).get_json()["error"]["message"]
    assert re.fullmatch(r"this account may send 10 lines a minute; try again in (\d+) s", later)


def test_minutes_slide(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["requests_per_minute"] = 4
    key = key_of()
    assert [look(application, key).status_code for _ in range(5)] == [200] * 4 + [429]
    let_time_pass(70_000)
    # Five sixths of the four are within the last minute.
    assert [look(application, key).status_code for _ in range(2)] == [200, 429]
    let_time_pass(60_000)
    assert look(application, key).headers["x-ratelimit-remaining-requests"] == "3"
    let_time_pass(120_000)
    assert [look(application, key).status_code for _ in range(5)] == [200] * 4 + [429]


def counter(unit: str, owner: str) -> bytes | str:
    """The name of the one counter of this unit, of a key or of an account."""
    [name] = redis_client().keys(f"inkqueue:counter:{unit}:{owner}_*")
    return name


def let_time_pass(ms: int) -> None:
    """Let the account's requests have been counted so much earlier."""
    redis_client().hincrby(counter("requests", "acc"), "began_ms", -ms)


def test_lines_are_counted_by_the_job(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["lines_per_minute"] = 5
    key = key_of()
    assert submit(application, key, 4).headers["x-ratelimit-remaining-lines"] == "1"
    assert_refused(submit(application, key, 2))
    assert submit(application, key, 1).status_code == 202
    assert rows("SELECT sum(images_total) FROM jobs") == [(5,)]


def test_lines_that_are_retried_count_too(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["lines_per_minute"] = 5
    key = key_of()
    job = f"/v1/jobs/{submit(application, key, 3).get_json()['id']}"
    application.post(f"{job}/cancel", headers=key)
    assert_refused(application.post(f"{job}/retry", headers=key))


def test_without_redis_requests_pass_and_are_counted(
    application: FlaskClient, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits["requests_per_minute"] = 1
    monkeypatch.setattr("api.rate_counters.redis_client", lambda: Redis(unix_socket_path="/nowhere"))
    before = REGISTRY.get_sample_value("inkqueue_rate_limits_unjudged_total") or 0
    key = key_of()
    assert [look(application, key).status_code for _ in range(3)] == [200] * 3
    assert REGISTRY.get_sample_value("inkqueue_rate_limits_unjudged_total") == before + 3


def test_requests_do_not_wait_for_a_silent_redis_one_by_one(
    application: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, clock = key_of(), Clock()
    cached = (settings, redis_client, celery_app, redis_patience)
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as changed:
        silent.settimeout(0)
        changed.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        changed.setattr("core.redis_address._TIMEOUT_S", 0.05)
        changed.setattr("core.redis_address.Patience", partial(Patience, clock))
        for each in cached:
            each.cache_clear()
        jobs = [submit(application, key).get_json()["id"] for _ in range(3)]
        assert application.post(f"/v1/jobs/{jobs[0]}/cancel", headers=key).status_code == 200
        assert attempts(silent) == 1
        clock.pass_time(1.0)
        assert submit(application, key).status_code == 202
        assert attempts(silent) == 1
    for each in cached:
        each.cache_clear()
    assert rows("SELECT count(*) FROM jobs WHERE status = 'queued'") == [(3,)]


def attempts(server: socket.socket) -> int:
    """How many have connected since it was asked last."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_an_account_has_so_many_jobs_in_flight(limits: dict[str, int]) -> None:
    limits["max_jobs_in_flight"] = 2
    caller = new_caller()
    submit_lines(caller), submit_lines(caller)
    with pytest.raises(RateLimited, match="2 jobs in flight"):
        submit_lines(caller)
    outcomes.finish([read(claims.claim("wrk_1", MODEL, most=1)[0])])
    submit_lines(caller)
    submit_lines(new_caller("stranger"))


def test_jobs_that_are_submitted_at_once_never_pass_the_limit_together(limits: dict[str, int]) -> None:
    limits["max_jobs_in_flight"] = 4
    caller = new_caller()

    def submitted(_: int) -> bool:
        try:
            submit_lines(caller)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(submitted, range(12))) == 4
    assert rows("SELECT held_micro FROM accounts") == [(4_000_000,)]


def test_stored_bytes_are_free_again_when_their_job_is_deleted(limits: dict[str, int]) -> None:
    limits["max_stored_bytes"] = 2 * len(PICTURE)
    caller = new_caller()
    job_id = submit_lines(caller, 2, data=PICTURE)
    with pytest.raises(RateLimited, match="delete jobs"):
        submit_lines(caller, data=PICTURE)
    delete_job(caller, job_id)
    assert rows("SELECT stored_bytes FROM accounts") == [(0,)]
    submit_lines(caller, data=PICTURE)


def test_a_key_has_bytes_of_its_own_below_the_accounts(application: FlaskClient) -> None:
    narrow, wide = key_of(limits={"stored_bytes": 2 * len(PICTURE)}), key_of()
    job_id = submit(application, narrow, 2).get_json()["id"]
    refused = submit(application, narrow)
    assert_refused(refused)
    assert "the key would store" in refused.get_json()["error"]["message"]
    assert submit(application, wide).status_code == 202
    application.delete(f"/v1/jobs/{job_id}", headers=wide)
    assert submit(application, narrow).status_code == 202
    assert rows("SELECT stored_bytes FROM api_keys ORDER BY id") == [(len(PICTURE),), (len(PICTURE),)]


def test_a_full_queue_refuses_what_is_not_more_urgent(application: FlaskClient, limits: dict[str, int]) -> None:
    limits["max_queued_images"] = 3
    submit_lines(new_caller("many"), 3)
    queue_watch.cache_clear()
    key = key_of()
    assert_refused(submit(application, key), "queue_full")
    urgent = application.post("/v1/jobs?priority=interactive", data=PICTURE, content_type="image/png", headers=key)
    assert urgent.status_code == 202


def test_a_queue_whose_oldest_image_has_waited_too_long_is_full(limits: dict[str, int]) -> None:
    limits["max_queue_age_s"] = 3600
    submit_lines(new_caller())
    with transaction() as connection:
        connection.execute(text("UPDATE images SET id = 'img_' || repeat('0', 26)"))  # made in 1970
    with pytest.raises(QueueFull, match="has waited"):
        QueueWatch().check(MODEL, Priority.NORMAL)
    QueueWatch().check("another model", Priority.NORMAL)


def test_a_queue_is_looked_at_once_a_second(limits: dict[str, int]) -> None:
    limits["max_queued_images"] = 1
    now_s = [0.0]
    watch = QueueWatch(lambda: now_s[0])
    watch.check(MODEL, Priority.NORMAL)
    submit_lines(new_caller())
    watch.check(MODEL, Priority.NORMAL)
    now_s[0] = 1.0
    with pytest.raises(QueueFull):
        watch.check(MODEL, Priority.NORMAL)
