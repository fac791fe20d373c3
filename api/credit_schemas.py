"""The JSON of what things cost: prices, quotes, ledger entries, receipts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.request_fields import Read
from api.schemas import ModeName, PriorityName, UsageBody, shown_credits
from core.ledger_views import EntryView
from core.prices import FREE, PriceList
from core.quotes import Quote
from core.receipts import Receipt
from core.states import Mode, Priority


class DryRunQuery(Read):
    """Whether a submission is only to be priced."""

    # A raw image's options stand beside it.
    model_config = ConfigDict(extra="ignore")

    dry_run: bool = Field(False, description="Price the job and queue nothing.")


class PriceBody(BaseModel):
    """What one line costs."""

    model: str
    mode: ModeName
    priority: PriorityName
    credits_per_line: int | float


class PricingBody(BaseModel):
    """The price list."""

    object: Literal["price_list"] = "price_list"
    version: str = Field(description="A job is charged by the list that was in force when it was submitted.")
    unit: Literal["line"] = "line"
    prices: list[PriceBody] = Field(description="With one beam.")
    extra_beam: float = Field(description="The part of a line's price that each beam beyond the first costs more.")
    free: list[str] = Field(description="What is never charged.")

    @classmethod
    def of(cls, prices: PriceList, models: Iterable[str]) -> PricingBody:
        """Render the prices of these models."""
        return cls(
            version=prices.version,
            prices=[
                PriceBody(
                    model=model,
                    mode=mode.value,
                    priority=priority.label,
                    credits_per_line=shown_credits(prices.price(model, mode, priority).line_micro),
                )
                for model in models
                for mode in Mode
                for priority in Priority
            ],
            extra_beam=float(prices.extra_beam),
            free=list(FREE),
        )


class QuoteBody(BaseModel):
    """What a job would cost; nothing was queued."""

    object: Literal["quote"] = "quote"
    model: str
    images: int
    lines: int = Field(description="Exact for lines, an estimate for pages and for images that may be pages.")
    lines_exact: bool
    credits: int | float = Field(description="What these lines cost if all of them are read.")
    held: int | float = Field(description="What would be set aside at submission.")
    credits_per_line: int | float
    price_version: str
    available: int | float = Field(description="What the key can spend: of its account's credits, and of its own cap.")
    affordable: bool
    queue_seconds: float | None = Field(description="An estimate; null while nothing was read lately.")

    @classmethod
    def of(cls, quote: Quote) -> QuoteBody:
        """Render a quote."""
        return cls(
            model=quote.model,
            images=quote.images,
            lines=quote.lines,
            lines_exact=quote.lines_exact,
            credits=shown_credits(quote.credits_micro),
            held=shown_credits(quote.held_micro),
            credits_per_line=shown_credits(quote.price.line_micro),
            price_version=quote.price.version,
            available=shown_credits(quote.available_micro),
            affordable=quote.held_micro <= quote.available_micro,
            queue_seconds=quote.queue_s,
        )


class ShareBody(BaseModel):
    """What one grant paid of an entry."""

    grant_id: str
    credits: int | float


class EntryBody(BaseModel):
    """One movement of credits: `grant` and `adjust` raise the balance, `capture` and `expire` lower it."""

    id: int
    object: Literal["credit_entry"] = "credit_entry"
    kind: Literal["grant", "hold", "capture", "release", "expire", "adjust"]
    credits: int | float
    job_id: str | None
    image_id: str | None
    key_id: str | None
    reason: str | None
    created_at: datetime
    paid_by: list[ShareBody]

    @classmethod
    def of(cls, entry: EntryView) -> EntryBody:
        """Render an entry."""
        return cls(
            id=entry.id,
            kind=entry.kind.value,
            credits=shown_credits(entry.amount_micro),
            job_id=entry.job_id,
            image_id=entry.image_id,
            key_id=entry.key_id,
            reason=entry.reason,
            created_at=entry.created_at,
            paid_by=[ShareBody(grant_id=s.grant_id, credits=shown_credits(s.amount_micro)) for s in entry.paid_by],
        )


class ReceiptBody(BaseModel):
    """What a job cost and why, entry by entry; it stays when the job is deleted."""

    object: Literal["receipt"] = "receipt"
    job_id: str
    model: str
    mode: ModeName
    priority: PriorityName
    beams: int
    price_version: str
    credits_per_line: int | float
    usage: UsageBody
    entries: list[EntryBody]

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptBody:
        """Render a receipt."""
        return cls(
            job_id=receipt.job_id,
            model=receipt.model,
            mode=receipt.mode.value,
            priority=receipt.priority.label,
            beams=receipt.beams,
            price_version=receipt.price.version,
            credits_per_line=shown_credits(receipt.price.line_micro),
            usage=UsageBody(
                lines=receipt.lines,
                credits=shown_credits(receipt.charged_micro),
                held=shown_credits(receipt.held_micro),
            ),
            entries=[EntryBody.of(entry) for entry in receipt.entries],
        )
