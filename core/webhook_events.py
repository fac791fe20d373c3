"""The types of events that webhooks tell."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """What a webhook tells."""

    #: A worker has claimed the job's first image.
    STARTED = "job.started"
    #: All images of the job were read, or some.
    COMPLETED = "job.completed"
    #: No image of the job was read, or its deadline came.
    FAILED = "job.failed"
    #: The caller gave the job up.
    CANCELED = "job.canceled"
    #: A batch has ended, in one of four ways.
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_CANCELLED = "batch.cancelled"
    #: The account's balance has fallen below its threshold.
    CREDITS_LOW = "credits.low"
    #: A trial, when somebody asks for it; nobody subscribes to it.
    PING = "endpoint.ping"
