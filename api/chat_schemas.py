"""Chat completions as OpenAI's clients send and read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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
    tier_told,
)
from api.request_schemas import Beams, Metadata
from core.reading_options import ReadingOptions
from core.readings import Reading


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ImageUrl(_Part):
    """Where an image is."""

    url: str = Field(description="An http(s) address, or a data URL.")
    detail: Literal["auto", "low", "high", "original"] | None = Field(None, description="Taken, and without effect.")


class ImagePart(_Part):
    """One text line."""

    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(_Part):
    """A prompt; it is not read."""

    type: Literal["text"]
    text: str


Part = Annotated[ImagePart | TextPart, Field(discriminator="type")]


class Message(_Part):
    """A message of any role: its images are read, its text is not."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(_Part):
    """What a stream tells."""

    include_usage: bool | None = False


def _one(choices: int | None) -> int | None:
    if choices not in (None, 1):
        raise ValueError("a line is read once: n can only be 1")
    return choices


class ChatRequest(OpenAIRequest):
    """Images to read, one text line each, in the order in which they stand in the messages."""

    model: str = Field(max_length=256, description="A model of `GET /v1/models`.")
    messages: list[Message] = Field(min_length=1, max_length=2048)
    max_tokens: TokenLimit | None = Field(None, description="Read at most so many tokens of each line.")
    max_completion_tokens: TokenLimit | None = Field(None, description="The same, by its newer name.")
    n: Annotated[int | None, AfterValidator(_one)] = Field(None, description="1.")
    stream: bool | None = Field(False, description="Whether the text comes piece by piece while it is read.")
    stream_options: StreamOptions | None = None
    logprobs: bool | None = Field(False, description="Whether each token comes with the logarithm of its probability.")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS, description="Needs `logprobs`.")
    beams: Beams | None = Field(None, description="Not of OpenAI: the `beams` of `POST /v1/jobs`.")
    metadata: Metadata | None = Field(None, description="Comes back with the job.")
    service_tier: ServiceTier | None = Field(None, description="`flex`: read when there is time, at the bulk price.")

    @classmethod
    def without_effect(cls) -> frozenset[str]:
        """Parameters that are taken and change nothing."""
        return frozenset(
            {
                "frequency_penalty",
                "parallel_tool_calls",
                "prediction",
                "presence_penalty",
                "prompt_cache_key",
                "prompt_cache_options",
                "prompt_cache_retention",
                "reasoning_effort",
                "safety_identifier",
                "seed",
                "store",
                "temperature",
                "top_p",
                "user",
                "verbosity",
            }
        )

    @classmethod
    def refused(cls) -> Mapping[str, tuple[object, ...]]:
        """Parameters that are refused, but for these values."""
        return {
            "audio": (),
            "function_call": ("none", "auto"),
            "functions": ([],),
            "logit_bias": ({},),
            "modalities": (["text"],),
            "moderation": (),
            "response_format": ({"type": "text"},),
            "stop": ([],),
            "tool_choice": ("none", "auto"),
            "tools": ([],),
            "web_search_options": (),
        }

    @model_validator(mode="after")
    def _agreeing(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        check_alternatives(self.top_logprobs, beams=self.beams)
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def reading_options(self) -> ReadingOptions:
        """What is asked of each line."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return ReadingOptions(
            beams=self.beams or 1,
            max_new_tokens=min(limits, default=None),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            watched=bool(self.stream),
        )

    def image_urls(self) -> Iterator[tuple[str, str]]:
        """The address of each image, after the place where it stands."""
        for at, message in enumerate(self.messages):
            if isinstance(message.content, list):
                for place, part in enumerate(message.content):
                    if isinstance(part, ImagePart):
                        yield f"messages.{at}.content.{place}.image_url.url", part.image_url.url


class PromptTokensBody(BaseModel):
    """Of `prompt_tokens`."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensBody(BaseModel):
    """Of `completion_tokens`."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class ChatUsageBody(BaseModel):
    """Tokens as OpenAI counts them, and what was charged."""

    prompt_tokens: int = Field(description=f"{TOKENS_PER_IMAGE} an image; text is not read and counts nothing.")
    completion_tokens: int = Field(description="Tokens that the model wrote, the end tokens included.")
    total_tokens: int
    prompt_tokens_details: PromptTokensBody = PromptTokensBody()
    completion_tokens_details: CompletionTokensBody = CompletionTokensBody()
    ocr: OcrUsageBody

    @classmethod
    def of(cls, reading: Reading) -> ChatUsageBody:
        """Render what a reading took."""
        prompt_tokens = TOKENS_PER_IMAGE * len(reading.images)
        return cls(
            prompt_tokens=prompt_tokens,
            completion_tokens=reading.token_count,
            total_tokens=prompt_tokens + reading.token_count,
            ocr=OcrUsageBody.of(reading),
        )


class LogprobsBody(BaseModel):
    """The tokens of a text."""

    content: list[LogprobBody]
    refusal: None = None

    @classmethod
    def of(cls, reading: Reading) -> LogprobsBody:
        """Render a reading's tokens."""
        return cls(content=[LogprobBody.of(token) for token in reading.tokens])


class ChatMessageBody(BaseModel):
    """What was read: a row for each image."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: list[Any] = []


class ChoiceBody(BaseModel):
    """The one choice."""

    index: int = 0
    message: ChatMessageBody
    logprobs: LogprobsBody | None
    finish_reason: Literal["stop", "length"] = Field(description="`length`: a token limit ended a line.")


class ChatCompletionBody(BaseModel):
    """The answer to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChoiceBody]
    usage: ChatUsageBody
    service_tier: str | None
    system_fingerprint: None = None
    metadata: dict[str, str] | None
    ocr: OcrBody

    @classmethod
    def of(cls, reading: Reading, *, tier: ServiceTier | None = None) -> ChatCompletionBody:
        """Render what was read for a request of this tier."""
        return cls(
            id=chat_id(reading.job_id),
            created=int(reading.created_at.timestamp()),
            model=reading.model,
            choices=[
                ChoiceBody(
                    message=ChatMessageBody(content=reading.text),
                    logprobs=LogprobsBody.of(reading) if reading.has_tokens else None,
                    finish_reason=finish_reason(reading),
                )
            ],
            usage=ChatUsageBody.of(reading),
            service_tier=tier_told(tier),
            metadata=reading.metadata or None,
            ocr=OcrBody.of(reading),
        )


def chat_id(job_id: str) -> str:
    """The id of the completion that a job answers."""
    return openai_id("chatcmpl-", job_id)


def finish_reason(reading: Reading) -> Literal["stop", "length"]:
    """Why the text ends where it does."""
    return "length" if reading.truncated else "stop"
