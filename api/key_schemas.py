"""The JSON of API keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.request_fields import Moment, Sent, Storable
from api.schemas import shown_credits
from core.accounts import KeyTerms, Scope
from core.amounts import CREDIT_MICRO
from core.errors import NotFound
from core.keys import KeyView

ScopeName = Literal["read", "jobs", "admin"]


def _future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("this time has passed")
    return moment


def _possible(key_id: str) -> str:
    # Such an id was never given out, and Postgres need not be asked.
    if not re.fullmatch(r"key_[0-9a-z]{26}", key_id):
        raise NotFound(f"there is no key {key_id}")
    return key_id


class KeyLimits(Sent):
    """Limits of one key, below those of the account."""

    requests_per_minute: int | None = Field(None, ge=1)
    lines_per_minute: int | None = Field(None, ge=1)
    jobs_in_flight: int | None = Field(None, ge=1)
    stored_bytes: int | None = Field(None, ge=1, description="Image files of its jobs, until they are deleted.")


class KeyOptions(Sent):
    """What a new key may do."""

    name: Storable = Field(min_length=1, max_length=100)
    scopes: list[ScopeName] = Field(["read", "jobs"], min_length=1, description="`admin` holds `jobs` holds `read`.")
    expires_at: Annotated[Moment, AfterValidator(_future)] | None = None
    monthly_cap: Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=6)] | None = Field(
        None, description="Most credits that its jobs may cost in a calendar month, in UTC."
    )
    limits: KeyLimits = KeyLimits()

    @property
    def terms(self) -> KeyTerms:
        """As the service knows them."""
        return KeyTerms(
            scopes=frozenset(Scope(scope) for scope in self.scopes),
            expires_at=self.expires_at,
            monthly_cap_micro=int(self.monthly_cap * CREDIT_MICRO) if self.monthly_cap is not None else None,
            limits=self.limits.model_dump(exclude_none=True),
        )


class RotationQuery(Sent):
    """How a key's secret is changed."""

    overlap_s: int = Field(0, ge=0, le=7 * 86_400, description="Seconds for which the old secret is taken yet.")


class KeyPath(BaseModel):
    """A key's id in the path."""

    key_id: Annotated[str, AfterValidator(_possible)] = Field(description="As in the key's `id`.")


class KeyBody(BaseModel):
    """A key, without its secret."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    last_four: str
    scopes: list[ScopeName]
    limits: KeyLimits
    monthly_cap: int | float | None
    spent_this_month: int | float
    held: int | float
    stored_bytes: int
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None
    key: str | None = Field(None, description="The secret: shown once, when it is made.")

    @classmethod
    def of(cls, key: KeyView, *, secret: str | None = None) -> KeyBody:
        """Render a key, with its secret where it was just made."""
        return cls.model_validate(
            {
                "id": key.id,
                "name": key.name,
                "last_four": key.last_four,
                "scopes": key.scopes,
                "limits": key.limits,
                "monthly_cap": None if key.monthly_cap_micro is None else shown_credits(key.monthly_cap_micro),
                "spent_this_month": shown_credits(key.captured_micro),
                "held": shown_credits(key.held_micro),
                "stored_bytes": key.stored_bytes,
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "last_used_at": key.last_used_at,
                "revoked_at": key.revoked_at,
                "key": secret,
            }
        )


class KeyListBody(BaseModel):
    """All keys of the account, oldest first."""

    object: Literal["list"] = "list"
    data: list[KeyBody]
