"""What OpenAI's paths have in common: which parameters are taken, and how tokens are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas import LineBody, shown_credits
from core.errors import MalformedRequest, UnsupportedParameter
from core.readings import Reading
from core.states import Priority
from core.transcript import Alternative, Token

#: What an image counts for in `usage`: the vectors that TrOCR's encoder makes of it. Credits are charged by the line.
TOKENS_PER_IMAGE = 578
MOST_TOP_LOGPROBS = 20
#: No model writes so many; what is beyond is no number that can be kept.
TokenLimit = Annotated[int, Field(ge=1, lt=2**31)]

ServiceTier = Literal["auto", "default", "flex", "priority"]


class OpenAIRequest(BaseModel):
    """A request in OpenAI's shape: what has a meaning here is a field, and what cannot have one is said.

    A parameter that would change the answer is refused where it asks for anything but what happens anyway.
    """

    model_config = ConfigDict(extra="allow")

    @classmethod
    def without_effect(cls) -> frozenset[str]:
        """Parameters that are taken and change nothing: a reading has no style."""
        raise NotImplementedError

    @classmethod
    def refused(cls) -> Mapping[str, tuple[object, ...]]:
        """Parameters that are refused, but for these values."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _only_known(self) -> OpenAIRequest:
        for name, value in (self.model_extra or {}).items():
            if name in self.without_effect() or value is None:
                continue
            # Errors of ours, and no ValueError, whose field would be the whole body.
            if name not in self.refused():
                raise MalformedRequest(
                    f"there is no parameter {name}; docs/openai.md lists those that there are", param=name
                )
            if value not in self.refused()[name]:
                raise UnsupportedParameter(
                    f"{name} is not available: lines are read, and nothing else is done with them", param=name
                )
        return self


class OcrUsageBody(BaseModel):
    """What was charged."""

    lines: int
    credits: int | float

    @classmethod
    def of(cls, reading: Reading) -> OcrUsageBody:
        """Render what a reading cost."""
        return cls(lines=reading.lines_charged, credits=shown_credits(reading.charged_micro))


class OcrBody(BaseModel):
    """What OpenAI's shape has no place for."""

    job_id: str = Field(description="The job, for `GET /v1/jobs/{id}`.")
    lines: list[LineBody] = Field(description="Each line with its confidence, its words and its flags.")

    @classmethod
    def of(cls, reading: Reading) -> OcrBody:
        """Render a reading's lines."""
        return cls(job_id=reading.job_id, lines=[LineBody.of(line) for line in reading.lines])


class AlternativeBody(BaseModel):
    """A token that could have stood in the place of another."""

    token: str
    logprob: float
    bytes: list[int] | None

    @classmethod
    def of(cls, alternative: Alternative) -> AlternativeBody:
        """Render an alternative."""
        return cls(
            token=alternative.text, logprob=shown_logprob(alternative.logprob), bytes=_bytes_of(alternative.text)
        )


class LogprobBody(BaseModel):
    """A token of the text."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[AlternativeBody]

    @classmethod
    def of(cls, token: Token) -> LogprobBody:
        """Render a token."""
        return cls(
            token=token.text,
            logprob=shown_logprob(token.logprob),
            bytes=_bytes_of(token.text),
            top_logprobs=[AlternativeBody.of(alternative) for alternative in token.alternatives],
        )


def priority_of(tier: ServiceTier | None) -> Priority:
    """Who waits is read first; who asks for `flex` waits, and pays the price of bulk."""
    return Priority.BULK if tier == "flex" else Priority.INTERACTIVE


def tier_told(tier: ServiceTier | None) -> str | None:
    """The tier that was served, where one was asked for."""
    return None if tier is None else "flex" if tier == "flex" else "default"


def check_alternatives(top_logprobs: int | None, *, beams: int | None) -> None:
    """See that no alternatives are wanted of beams, of which only the tokens that were read are kept.

    Raises:
        ValueError: They are.
    """
    if top_logprobs and (beams or 1) > 1:
        raise ValueError("top_logprobs is not available with beams: only tokens that were read are kept")


def openai_id(prefix: str, job_id: str) -> str:
    """A job's id in one of OpenAI's forms, such as `resp_…`."""
    return prefix + job_id.removeprefix("job_")


def shown_logprob(logprob: float) -> float:
    """A logarithm of a probability; JSON has no other word for one of 0 than a very small one."""
    return max(round(logprob, 6), -9999.0)


def dumped(body: BaseModel) -> dict[str, Any]:
    """A body as JSON's values."""
    return body.model_dump(mode="json")


def _bytes_of(text: str) -> list[int] | None:
    # A token that is part of a character has no text of its own; what its bytes are is not known here.
    return None if "\ufffd" in text else list(text.encode())
