"""The JSON of webhooks: endpoints, secrets, and the log of deliveries."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.pages import Page
from api.request_fields import Moment, Sent
from api.request_schemas import DEFAULT_JOB_EVENTS, JobEventName, JobId, WebhookUrl
from core.errors import NotFound
from core.webhook_deliveries import Attempt, Delivery
from core.webhook_endpoints import Endpoint

#: What an endpoint may hear of: all jobs and batches of the account, and the account itself.
EndpointEventName = (
    JobEventName
    | Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
    | Literal["credits.low"]
)
DEFAULT_ENDPOINT_EVENTS: list[EndpointEventName] = [*DEFAULT_JOB_EVENTS, "credits.low"]
DeliveryStatusName = Literal["pending", "delivered", "failed", "superseded"]
_ENDPOINT_ID = r"^whe_[0-9a-z]{26}$"
_DELIVERY_ID = r"^whd_[0-9a-z]{26}$"
_DAY_S = 24 * 3600


def _possible_endpoint(endpoint_id: str) -> str:
    if not re.match(_ENDPOINT_ID, endpoint_id):
        raise NotFound(f"there is no webhook endpoint {endpoint_id}")
    return endpoint_id


def _possible_delivery(delivery_id: str) -> str:
    if not re.match(_DELIVERY_ID, delivery_id):
        raise NotFound(f"there is no webhook delivery {delivery_id}")
    return delivery_id


class EndpointPath(BaseModel):
    """An endpoint's id in the path."""

    endpoint_id: Annotated[str, AfterValidator(_possible_endpoint)]


class DeliveryPath(BaseModel):
    """A delivery's id in the path."""

    delivery_id: Annotated[str, AfterValidator(_possible_delivery)]


class NewEndpointBody(Sent):
    """A new endpoint."""

    url: WebhookUrl
    events: list[EndpointEventName] = Field(DEFAULT_ENDPOINT_EVENTS, min_length=1)
    include_text: bool = Field(False, description="Whether the text read comes with the end, cut to fit 20 KB.")


class EndpointChangeBody(Sent):
    """What is to change of an endpoint."""

    url: WebhookUrl | None = None
    events: list[EndpointEventName] | None = Field(None, min_length=1)
    include_text: bool | None = None
    enabled: bool | None = Field(None, description="True sends again to an endpoint that was disabled.")


class RotationBody(Sent):
    """How a secret is replaced."""

    overlap_s: int = Field(_DAY_S, ge=0, le=30 * _DAY_S, description="How long both sign; 0 ends the old one at once.")


class ReplayBody(Sent):
    """Which failed deliveries are sent again."""

    since: Moment = Field(description="Those whose event happened at this time or later.")
    endpoint_id: str | None = Field(None, pattern=_ENDPOINT_ID)


class DeliveryPageQuery(Sent):
    """Which deliveries, and which page of them."""

    after: str | None = Field(None, pattern=_DELIVERY_ID, description="The `next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    status: DeliveryStatusName | None = None
    endpoint_id: str | None = Field(None, pattern=_ENDPOINT_ID)
    job_id: JobId | None = None
    event: str | None = Field(None, max_length=64)
    since: Moment | None = None


class EndpointBody(BaseModel):
    """An endpoint."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    events: list[str]
    include_text: bool
    created_at: datetime
    failing_since: datetime | None = Field(description="The first attempt that failed since one succeeded.")
    disabled_at: datetime | None = Field(description="When it was disabled; nothing is sent to it since.")
    disabled_reason: str | None

    @classmethod
    def of(cls, endpoint: Endpoint) -> EndpointBody:
        """Render an endpoint."""
        return cls(
            id=endpoint.id,
            url=endpoint.url,
            events=[event.value for event in endpoint.events],
            include_text=endpoint.include_text,
            created_at=endpoint.created_at,
            failing_since=endpoint.failing_since,
            disabled_at=endpoint.disabled_at,
            disabled_reason=endpoint.disabled_reason,
        )


class SecretBody(BaseModel):
    """A secret that webhooks are signed with."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(description="`whsec_` and base64, as the libraries of Standard Webhooks take it.")


class CreatedEndpointBody(EndpointBody):
    """A new endpoint with its secret, which is not shown again."""

    secret: str


class EndpointListBody(BaseModel):
    """All endpoints, oldest first."""

    object: Literal["list"] = "list"
    data: list[EndpointBody]


class DeletedEndpointBody(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    deleted: Literal[True] = True


class AttemptBody(BaseModel):
    """How one request went."""

    number: int
    ended_at: datetime
    latency_ms: int
    status_code: int | None = Field(description="Null when there was no answer.")
    response: str | None = Field(description="The first KB of the answer.")
    error: str | None = Field(description="What went wrong; null when it was delivered.")

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptBody:
        """Render an attempt."""
        return cls(
            number=attempt.number,
            ended_at=attempt.ended_at,
            latency_ms=attempt.latency_ms,
            status_code=attempt.status_code,
            response=attempt.response,
            error=attempt.error,
        )


class DeliveryBody(BaseModel):
    """One event on its way to one receiver."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event: str
    webhook_id: str = Field(description="The header `webhook-id`: the same for all receivers and attempts of an event.")
    endpoint_id: str | None = Field(description="Null for the webhook of a single job.")
    job_id: str | None
    url: str
    status: DeliveryStatusName
    created_at: datetime
    ended_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[AttemptBody] = Field(description="The latest 20.")

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryBody:
        """Render a delivery."""
        return cls(
            id=delivery.id,
            event=delivery.event,
            webhook_id=delivery.event_id,
            endpoint_id=delivery.endpoint_id,
            job_id=delivery.job_id,
            url=delivery.url,
            status=delivery.status.value,
            created_at=delivery.created_at,
            ended_at=delivery.ended_at,
            next_attempt_at=delivery.next_attempt_at,
            attempts=[AttemptBody.of(attempt) for attempt in delivery.attempts],
        )


class DeliveryListBody(Page[DeliveryBody, str]):
    """A page of deliveries, newest first."""


class ReplayedBody(BaseModel):
    """How many deliveries are sent again."""

    object: Literal["webhook_replay"] = "webhook_replay"
    count: int
