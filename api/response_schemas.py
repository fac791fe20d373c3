"""Responses as OpenAI's clients ask for them and read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.file_schemas import FileId
from api.openai_schemas import (
    MOST_TOP_LOGPROBS,
    TOKENS_PER_IMAGE,
    LogprobBody,
    OcrBody,
    OcrUsageBody,
    OpenAIRequest,
    ServiceTier,
    TokenLimit,
    check_alternatives,
    openai_id,
)
from api.request_fields import Read
from api.request_schemas import Beams, Metadata, possible_job_id
from core.reading_options import ReadingOptions
from core.readings import Reading
from core.states import Status

_LOGPROBS = "message.output_text.logprobs"
_STATUS: dict[Status, Literal["queued", "in_progress", "completed", "failed", "cancelled"]] = {
    Status.QUEUED: "queued",
    Status.RUNNING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.PARTIAL: "failed",
    Status.FAILED: "failed",
    Status.EXPIRED: "failed",
    Status.CANCELED: "cancelled",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class InputImage(_Part):
    """One text line: exactly one of `image_url` and `file_id`."""

    type: Literal["input_image"]
    image_url: str | None = Field(None, description="An http(s) address, or a data URL.")
    file_id: FileId | None = Field(None, description="An upload of `/v1/files`.")

    @model_validator(mode="after")
    def _exactly_one(self) -> InputImage:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("an image has exactly one of image_url and file_id")
        return self


class InputText(_Part):
    """A prompt, or an earlier answer; it is not read."""

    type: Literal["input_text", "output_text", "refusal"]


class InputMessage(_Part):
    """A message of any role: its images are read, its text is not."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputImage | InputText]


class ResponseRequest(OpenAIRequest):
    """Images to read, one text line each, in the order in which they stand in the input."""

    model: str = Field(max_length=256, description="A model of `GET /v1/models`.")
    input: str | list[InputMessage]
    max_output_tokens: TokenLimit | None = Field(None, description="Read at most so many tokens of each line.")
    stream: bool | None = Field(False, description="Whether the text comes piece by piece while it is read.")
    background: bool | None = Field(False, description="Whether the answer comes at once, to be looked at later.")
    include: list[str] | None = Field(None, description=f"`{_LOGPROBS}`; others change nothing.")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    beams: Beams | None = Field(None, description="Not of OpenAI: the `beams` of `POST /v1/jobs`.")
    metadata: Metadata | None = None
    service_tier: ServiceTier | None = Field(None, description="`flex`: read when there is time, at the bulk price.")

    @model_validator(mode="after")
    def _agreeing(self) -> ResponseRequest:
        check_alternatives(self.top_logprobs, beams=self.beams)
        return self

    @classmethod
    def without_effect(cls) -> frozenset[str]:
        """Parameters that are taken and change nothing."""
        return frozenset(
            {
                "instructions",
                "max_tool_calls",
                "parallel_tool_calls",
                "prompt_cache_key",
                "prompt_cache_options",
                "prompt_cache_retention",
                "reasoning",
                "safety_identifier",
                "store",
                "stream_options",
                "temperature",
                "top_p",
                "truncation",
                "user",
            }
        )

    @classmethod
    def refused(cls) -> Mapping[str, tuple[object, ...]]:
        """Parameters that are refused, but for these values."""
        return {
            "context_management": ([],),
            "conversation": (),
            "moderation": (),
            "previous_response_id": (),
            "prompt": (),
            "text": ({"format": {"type": "text"}}, {}),
            "tool_choice": ("none", "auto"),
            "tools": ([],),
        }

    @property
    def with_logprobs(self) -> bool:
        """Whether each token is wanted with its probability."""
        return _LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    @property
    def reading_options(self) -> ReadingOptions:
        """What is asked of each line."""
        return ReadingOptions(
            beams=self.beams or 1,
            max_new_tokens=self.max_output_tokens,
            top_logprobs=(self.top_logprobs or 0) if self.with_logprobs else None,
            watched=bool(self.stream),
        )

    def images(self) -> Iterator[tuple[str, InputImage]]:
        """Each image, after the place where it stands."""
        for at, message in enumerate(self.input if isinstance(self.input, list) else ()):
            for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
                if isinstance(part, InputImage):
                    yield f"input.{at}.content.{place}", part


class ResponsePath(BaseModel):
    """The id of a response: its job's, with another prefix."""

    response_id: str

    @property
    def job_id(self) -> str:
        """The job's id."""
        return possible_job_id("job_" + self.response_id.removeprefix("resp_"))


class ResponseQuery(Read):
    """How a response is looked at."""

    model_config = ConfigDict(extra="ignore")

    stream: bool = Field(False, description="Whether it comes as events, from the first on, as it is read.")
    starting_after: int | None = Field(None, description="Refused: events are not kept.")


class InputTokensBody(BaseModel):
    """Of `input_tokens`."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensBody(BaseModel):
    """Of `output_tokens`."""

    reasoning_tokens: int = 0


class ResponseUsageBody(BaseModel):
    """Tokens as OpenAI counts them, and what was charged."""

    input_tokens: int = Field(description=f"{TOKENS_PER_IMAGE} an image; text is not read and counts nothing.")
    input_tokens_details: InputTokensBody = InputTokensBody()
    output_tokens: int = Field(description="Tokens that the model wrote, the end tokens included.")
    output_tokens_details: OutputTokensBody = OutputTokensBody()
    total_tokens: int
    ocr: OcrUsageBody

    @classmethod
    def of(cls, reading: Reading) -> ResponseUsageBody:
        """Render what a reading took."""
        input_tokens = TOKENS_PER_IMAGE * len(reading.images)
        return cls(
            input_tokens=input_tokens,
            output_tokens=reading.token_count,
            total_tokens=input_tokens + reading.token_count,
            ocr=OcrUsageBody.of(reading),
        )


class OutputTextBody(BaseModel):
    """What was read: a row for each image."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[LogprobBody] = []

    @classmethod
    def of(cls, reading: Reading) -> OutputTextBody:
        """Render a text."""
        return cls(text=reading.text, logprobs=[LogprobBody.of(token) for token in reading.tokens])


class OutputMessageBody(BaseModel):
    """The one message of a response."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputTextBody]

    @classmethod
    def of(cls, reading: Reading) -> OutputMessageBody:
        """Render a reading that has ended."""
        status: Literal["completed", "incomplete"] = "incomplete" if reading.truncated else "completed"
        return cls(id=message_id(reading), status=status, content=[OutputTextBody.of(reading)])


class ResponseErrorBody(BaseModel):
    """Why an image could not be read."""

    code: str
    message: str


class IncompleteBody(BaseModel):
    """Why the text is not whole."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseBody(BaseModel):
    """A response: a job, as OpenAI's clients see it."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: ResponseErrorBody | None
    incomplete_details: IncompleteBody | None
    instructions: None = None
    model: str
    output: list[OutputMessageBody]
    usage: ResponseUsageBody | None
    metadata: dict[str, str]
    parallel_tool_calls: bool = False
    temperature: None = None
    top_p: None = None
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = []
    ocr: OcrBody

    @classmethod
    def of(cls, reading: Reading) -> ResponseBody:
        """Render a job, ended or not."""
        cut_short = reading.status is Status.SUCCEEDED and reading.truncated
        failed = next((image.error for image in reading.images if image.error is not None), None)
        ended = reading.status.terminal
        return cls(
            id=openai_id("resp_", reading.job_id),
            created_at=int(reading.created_at.timestamp()),
            completed_at=int(reading.finished_at.timestamp()) if reading.finished_at else None,
            status="incomplete" if cut_short else _STATUS[reading.status],
            error=ResponseErrorBody(code=failed.code, message=failed.message) if failed and ended else None,
            incomplete_details=IncompleteBody() if cut_short else None,
            model=reading.model,
            output=[OutputMessageBody.of(reading)] if ended and reading.lines else [],
            usage=ResponseUsageBody.of(reading) if ended else None,
            metadata=reading.metadata,
            ocr=OcrBody.of(reading),
        )


class DeletedResponseBody(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


def message_id(reading: Reading) -> str:
    """The id of the one message of a response."""
    return openai_id("msg_", reading.job_id)
