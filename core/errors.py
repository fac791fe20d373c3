"""Every error that a caller can meet, under one base, each with its stable code."""

from __future__ import annotations


class InkqueueError(Exception):
    """Something went wrong inside the service.

    The class docstring's first line is the default message. `code` is the stable word that callers program against;
    `param` names the field that is at fault, in dotted form, where one is.
    """

    code = "internal"
    #: Seconds after which the same request may succeed; None: the usual.
    retry_after_s: int | None = None

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        self.param = param

    @property
    def message(self) -> str:
        """One sentence for people: what is wrong and what to do about it."""
        return str(self.args[0])


class MalformedRequest(InkqueueError):
    """The request could not be understood."""

    code = "malformed_request"


class UnsupportedParameter(InkqueueError):
    """The parameter asks for something that is not done here."""

    code = "unsupported_parameter"


class UnsupportedOperation(InkqueueError):
    """OpenAI has this operation, and it is not done here."""

    code = "unsupported_operation"


class InvalidApiKey(InkqueueError):
    """The API key is missing, unknown, expired or revoked."""

    code = "invalid_api_key"


class InsufficientCredits(InkqueueError):
    """The account has too few credits available for this job."""

    code = "insufficient_credits"


class KeyBudgetExceeded(InkqueueError):
    """The key has reached its spending cap of this month."""

    code = "key_budget_exceeded"


class MissingScope(InkqueueError):
    """The key may not do this."""

    code = "missing_scope"


class RateLimited(InkqueueError):
    """Too much was sent in too short a time."""

    code = "rate_limited"

    def __init__(self, message: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(RateLimited):
    """Too much waits to be read already."""

    code = "queue_full"


class TooManyBatches(RateLimited):
    """The account has as many open batches as it may."""

    code = "too_many_batches"


class NotFound(InkqueueError):
    """There is nothing here under that id."""

    code = "not_found"


class ModelNotFound(InkqueueError):
    """No model of that name is known here."""

    code = "model_not_found"


class ModelNotLoaded(InkqueueError):
    """The model is known, but no worker has loaded it."""

    code = "model_not_loaded"


class AlreadyFinished(InkqueueError):
    """The job has already ended."""

    code = "already_finished"


class IdempotencyInProgress(InkqueueError):
    """A request with this Idempotency-Key is just being answered; send it again in a moment."""

    code = "idempotency_in_progress"


class IdempotencyConflict(InkqueueError):
    """Another request was sent with this Idempotency-Key, or under this id; use a new one."""

    code = "idempotency_conflict"


class NotFinished(InkqueueError):
    """The job has not ended yet."""

    code = "not_finished"


class Gone(InkqueueError):
    """The job was deleted."""

    code = "gone"


class ImageTooLarge(InkqueueError):
    """The image is over the limit of bytes or pixels."""

    code = "image_too_large"


class UnsupportedImage(InkqueueError):
    """The bytes are not an image of a supported type."""

    code = "unsupported_image"


class InvalidImage(InkqueueError):
    """The image is damaged: its pixels cannot be decoded."""

    code = "invalid_image"


class TooManyImages(InkqueueError):
    """The job holds more images than one job may."""

    code = "too_many_images"


class UrlNotAllowed(InkqueueError):
    """The address of the image may not be fetched from here."""

    code = "url_not_allowed"


class UrlUnreachable(InkqueueError):
    """The image could not be fetched from its address."""

    code = "url_unreachable"


class ModeNotAvailable(InkqueueError):
    """This mode is not available."""

    code = "mode_not_available"


class BeamsNotAvailable(InkqueueError):
    """The model cannot follow several beginnings of a text."""

    code = "beams_not_available"


class Canceled(InkqueueError):
    """The job was canceled before it was read."""

    code = "canceled"


class Superseded(InkqueueError):
    """What was streamed so far is not what was read in the end."""

    code = "superseded"


class Unavailable(InkqueueError):
    """The service cannot take this on right now; try again later."""

    code = "unavailable"


class Contended(Unavailable):
    """Others hold what this request changes for too long; try again later."""


class WorkerLost(InkqueueError):
    """The workers that read this image were lost three times; it is given up."""

    code = "worker_lost"
