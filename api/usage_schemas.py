"""The JSON of reports: the ledger page by page, usage in sums, usage as CloudEvents."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.credit_schemas import EntryBody
from api.pages import Page
from api.request_fields import Moment, Sent
from api.schemas import shown_credits
from core.usage import UsageEvent, UsageRow


class EntryPageQuery(Sent):
    """Which page of the ledger."""

    after: int | None = Field(None, ge=1, le=2**62, description="The `next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=500)
    job_id: str | None = Field(None, pattern=r"^job_[0-9a-z]{26}$", description="Only this job's entries.")


class EntryListBody(Page[EntryBody, int]):
    """A page of the ledger, newest first."""


class _PeriodQuery(Sent):
    model_config = ConfigDict(populate_by_name=True)

    since: Moment | None = Field(None, alias="from", description="RFC 3339, from this moment on.")
    until: Moment | None = Field(None, alias="to", description="RFC 3339, before this moment.")


class UsageQuery(_PeriodQuery):
    """Which usage, and how it is summed."""

    group_by: Literal["day", "model", "key"] = "day"
    format: Literal["json", "csv"] = "json"


class UsageEventQuery(_PeriodQuery):
    """Which single charges."""

    after: int = Field(0, ge=0, le=2**62, description="The id of the last event that you have.")
    limit: int = Field(100, ge=1, le=1000)


class UsageRowBody(BaseModel):
    """What was charged in one group."""

    group: str = Field(description="A day in UTC, a model, or a key's id.")
    images: int
    lines: int
    credits: int | float

    @classmethod
    def of(cls, row: UsageRow) -> UsageRowBody:
        """Render a group."""
        return cls(group=row.group, images=row.images, lines=row.lines, credits=shown_credits(row.charged_micro))


class UsageReportBody(BaseModel):
    """What was charged, by group."""

    object: Literal["usage"] = "usage"
    group_by: Literal["day", "model", "key"]
    data: list[UsageRowBody]
    total: UsageRowBody


class ChargeBody(BaseModel):
    """What an image was charged for."""

    job_id: str
    image_id: str
    key_id: str | None
    model: str | None
    lines: int | None
    credits: int | float


class UsageEventBody(BaseModel):
    """One charge as a CloudEvent 1.0; `source` and `id` together are unique."""

    specversion: Literal["1.0"] = "1.0"
    type: Literal["inkqueue.image.charged"] = "inkqueue.image.charged"
    source: Literal["/v1/usage/events"] = "/v1/usage/events"
    id: str
    time: datetime
    subject: str = Field(description="The account.")
    datacontenttype: Literal["application/json"] = "application/json"
    data: ChargeBody

    @classmethod
    def of(cls, event: UsageEvent, account_id: str) -> UsageEventBody:
        """Render a charge."""
        return cls(
            id=str(event.id),
            time=event.at,
            subject=account_id,
            data=ChargeBody(
                job_id=event.job_id,
                image_id=event.image_id,
                key_id=event.key_id,
                model=event.model,
                lines=event.lines,
                credits=shown_credits(event.charged_micro),
            ),
        )
