"""Any order of what can happen to jobs and grants keeps every invariant of the money."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import delete, insert, text

from core import accounts, claims, credits, identification, leases, low_credits, outcomes
from core.accounts import Caller, KeyTerms
from core.amounts import CREDIT_MICRO
from core.audit import audit
from core.claims import Claim
from core.database import transaction
from core.errors import AlreadyFinished, Gone, InsufficientCredits, InvalidImage, KeyBudgetExceeded, NotFinished
from core.grants import Terms
from core.idempotency import AlreadySubmitted, Once
from core.images import inspect_image
from core.intake import submit
from core.jobs import cancel, delete_job
from core.layouts import lay_out
from core.new_jobs import NewImage, NewJob
from core.outcomes import Outcome
from core.states import Mode, Priority
from core.transcript import BoundingBox, Flag
from core.webhook_tables import WebhookEndpointRow
from tests.domain import MODEL, png, read, retry, rows
from tests.tables import Base
from worker.sweeper import Sweeper

PICTURE = png()
HEADER = inspect_image(PICTURE, max_bytes=10**6, max_pixels=10**6)
WORKER = "wrk_1"
CARD = {"name": MODEL}
#: The account begins with one credit more, so that it falls below soon, and a grant raises it above again.
LOW_MICRO = 19_000_000

#: What comes to its end.
DUE = {
    "grants": "UPDATE credit_grants SET expires_at = now() WHERE expires_at IS NOT NULL",
    "deadlines": "UPDATE jobs SET deadline_at = now() WHERE deadline_at IS NOT NULL",
    "idempotency keys": "UPDATE idempotency_keys SET expires_at = now()",
}


def boxes(lines: int) -> list[BoundingBox]:
    return [BoundingBox(xmin=0, ymin=10 * line, xmax=40, ymax=10 * line + 8) for line in range(lines)]


def outcome_of(claim: Claim, flags: list[Flag]) -> Outcome:
    """Every line of an image that was read, as its layout has them."""
    found = rows("SELECT layout FROM images WHERE id = :id", id=claim.image_id)
    laid_out = found[0][0] if found else None
    one = read(claim, flags=flags)
    many = one.lines * (len(laid_out) if isinstance(laid_out, list) else 1)
    return replace(one, lines=tuple(replace(line, index=index) for index, line in enumerate(many)))


class Money(RuleBasedStateMachine):
    """One small account with a capped key that is warned of low credits, and all that the service can do to it."""

    def __init__(self) -> None:
        super().__init__()
        with transaction(durable=False) as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(delete(table))
        with transaction() as connection:
            account_id = accounts.ensure_account(connection, "archive")
            entry = credits.Entry(account_id=account_id, kind=credits.EntryKind.ADJUST, amount_micro=-980_000_000)
            credits.post(connection, [entry])
            terms = KeyTerms(monthly_cap_micro=40_000_000)
            key = accounts.create_key(connection, account_id=account_id, name="test", terms=terms)
            self.caller: Caller = identification.caller_of(connection, key)
            low_credits.set_threshold(connection, account_id, LOW_MICRO)
            connection.execute(
                insert(WebhookEndpointRow).values(
                    id="whe_1", account_id=account_id, url="http://hook", events=["credits.low"], include_text=False
                )
            )
        self.jobs: list[str] = []
        self.claimed: list[Claim] = []
        self.keys: dict[str, str] = {}

    @initialize()
    def begin_with_a_job(self) -> None:
        self.submit(images=4, mode=Mode.LINE, priority=Priority.NORMAL, deadline_s=3600.0, key=None)

    @rule(
        images=st.integers(1, 4),
        mode=st.sampled_from(Mode),
        priority=st.sampled_from(Priority),
        deadline_s=st.sampled_from([None, 3600.0]),
        key=st.sampled_from([None, "a", "b"]),
    )
    def submit(self, images: int, mode: Mode, priority: Priority, deadline_s: float | None, key: str | None) -> None:
        new = NewJob(
            model=MODEL,
            mode=mode,
            priority=priority,
            max_lines=5,
            metadata={},
            images=[NewImage(data=PICTURE, header=HEADER, key=None)] * images,
            deadline_s=deadline_s,
        )
        once = Once(key=f"POST {key}", fingerprint=b"same") if key else None
        try:
            job_id = submit(self.caller, new, once=once).id
        except AlreadySubmitted as already:
            assert key is not None and already.earlier.job_id == self.keys[key]
        except (InsufficientCredits, KeyBudgetExceeded):
            pass
        else:
            assert key not in self.keys
            self.jobs.append(job_id)
            if key:
                self.keys[key] = job_id

    @rule(most=st.integers(1, 4))
    def claim(self, most: int) -> None:
        self.claimed += claims.claim(WORKER, MODEL, most=most)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), lines=st.integers(0, 5))
    def lay_out(self, data: st.DataObject, lines: int) -> None:
        lay_out(data.draw(st.sampled_from(self.claimed)), boxes(lines))

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), how=st.sampled_from(["read", "blank", "failed"]), twice=st.booleans())
    def finish(self, data: st.DataObject, how: str, twice: bool) -> None:
        outcome = outcome_of(data.draw(st.sampled_from(self.claimed)), [Flag.BLANK] if how == "blank" else [])
        if how == "failed":
            outcome = replace(outcome, lines=(), error=InvalidImage())
        for _ in range(1 + twice):
            outcomes.finish([outcome])

    @rule(most=st.integers(1, 4))
    def work(self, most: int) -> None:
        """A worker lives long enough to read what it has claimed."""
        for claim in claims.claim(WORKER, MODEL, most=most):
            outcomes.finish([outcome_of(claim, [])])

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claims.give_back([data.draw(st.sampled_from(self.claimed))])

    @rule(started=st.booleans())
    def crash(self, started: bool) -> None:
        """The worker dies with all that it has claimed, some of it in the model's rows."""
        worker_id = leases.register([CARD])
        with transaction() as connection:
            connection.execute(
                text("UPDATE images SET worker_id = :id, started_at = CASE WHEN :started THEN now() END "
                     "WHERE status = 'running'"),
                {"id": worker_id, "started": started},
            )  # fmt: skip
        leases.resign(worker_id)
        Sweeper().sweep()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), end=st.sampled_from([cancel, delete_job]))
    def give_up(self, data: st.DataObject, end: Callable[[Caller, str], None]) -> None:
        with suppress(AlreadyFinished, Gone):
            end(self.caller, data.draw(st.sampled_from(self.jobs)))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        refusals = (AlreadyFinished, NotFinished, Gone, InsufficientCredits, KeyBudgetExceeded)
        with suppress(*refusals):
            self.jobs.append(retry(self.caller, data.draw(st.sampled_from(self.jobs))))

    @rule(amount=st.integers(1, 10), days=st.sampled_from([None, 1, 2]))
    def grant(self, amount: int, days: int | None) -> None:
        end = datetime.now(UTC) + timedelta(days=days) if days else None
        with transaction() as connection:
            credits.grant(
                connection,
                account_id=self.caller.account_id,
                amount_micro=amount * CREDIT_MICRO,
                reason="test",
                terms=Terms(expires_at=end),
            )

    @rule(due=st.sampled_from(list(DUE)))
    def let_time_pass(self, due: str) -> None:
        with transaction() as connection:
            connection.execute(text(DUE[due]))
        Sweeper().sweep()
        if due == "idempotency keys":
            self.keys.clear()

    @invariant()
    def all_agrees(self) -> None:
        with transaction() as connection:
            assert audit(connection) == []

    @invariant()
    def nothing_is_overspent(self) -> None:
        ((balance, held),) = rows("SELECT balance_micro, held_micro FROM accounts")
        assert isinstance(balance, int) and isinstance(held, int) and 0 <= held <= balance
        (spent,) = rows(
            "SELECT held_micro + coalesce((SELECT sum(captured_micro) FROM key_months), 0) <= 40000000 FROM api_keys"
        )
        assert spent == (True,)

    @invariant()
    def each_fall_below_the_threshold_is_told_once(self) -> None:
        falls = rows(
            """
            SELECT count(*) FROM (
                SELECT moved.micro, sum(moved.micro) OVER (ORDER BY id) AS balance FROM ledger,
                LATERAL (SELECT CASE WHEN kind IN ('grant', 'adjust') THEN amount_micro
                                     WHEN kind IN ('capture', 'expire') THEN -amount_micro ELSE 0 END AS micro) moved
            ) entries WHERE balance < :low AND balance - micro >= :low""",
            low=LOW_MICRO,
        )
        assert rows("SELECT count(*) FROM webhook_deliveries WHERE event = 'credits.low'") == falls

    @invariant()
    def jobs_that_have_ended_hold_nothing(self) -> None:
        assert rows("SELECT id FROM jobs WHERE status NOT IN ('queued', 'running') AND held_micro <> 0") == []


TestMoney = Money.TestCase
TestMoney.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
