"""A model as the API tells of it: what OpenAI's clients read, what is known of it, what a worker has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas import shown_credits
from core.catalogue import Figure, KnownModel, catalogue, follows_beams, known_as
from core.prices import price_list
from core.reading_options import MAX_BEAMS
from core.settings import settings
from core.states import Mode, Priority


class FigureBody(BaseModel):
    """How well a model reads one data set."""

    dataset: str
    metric: Literal["cer", "wer", "f1", "word_accuracy"] = Field(
        description="`cer` and `wer` are shares; else percent."
    )
    value: float
    source: str

    @classmethod
    def of(cls, figure: Figure) -> FigureBody:
        """Render a figure."""
        return cls(**figure.model_dump())


class LinePriceBody(BaseModel):
    """Credits for a line, by priority."""

    interactive: int | float
    normal: int | float
    bulk: int | float


class ModelBody(BaseModel):
    """A model that workers serve now, or could."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the worker that serves it started, in Unix seconds; 0 while none does.")
    owned_by: str
    default: bool = Field(description="Whether jobs that name no model get this one.")
    loaded: bool = Field(description="Whether a worker serves it now.")
    how_to_load: str | None = Field(description="What its operator would do; null when it is loaded.")
    task: str | None
    architecture: str | None
    parameters: int | None
    fine_tuned_on: str | None
    license: str | None
    figures: list[FigureBody]
    max_beams: int = Field(description="The most `beams` of a job; 1: it reads without.")
    price: LinePriceBody
    revision: str | None
    sha256: str | None
    device: str | None
    dtype: str | None

    @classmethod
    def of(cls, name: str, card: Mapping[str, Any] | None) -> ModelBody:
        """Render a model.

        Args:
            name: As workers serve it; as the catalogue has it, where none does.
            card: What a worker says of it.
        """
        known = catalogue().get(known_as(name))
        loaded = card or {}
        return cls(
            id=name,
            created=loaded.get("created", 0),
            owned_by=known.owned_by if known else "inkqueue",
            default=name == settings().default_model,
            loaded=card is not None,
            how_to_load=None if card is not None else how_to_load(name),
            parameters=loaded.get("parameters") or (known and known.parameters),
            max_beams=MAX_BEAMS if follows_beams(name) else 1,
            price=_price(name),
            revision=loaded.get("revision"),
            sha256=loaded.get("sha256"),
            device=loaded.get("device"),
            dtype=loaded.get("dtype"),
            **_description(known),
        )


class ModelListBody(BaseModel):
    """The models: first those that workers serve now."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


def how_to_load(name: str) -> str:
    """What an operator does so that a worker serves a model of the catalogue."""
    return f'start a worker with {name} in INKQUEUE_MODELS, or everything with: make up ARGS="--model {name}"'


def _price(name: str) -> LinePriceBody:
    prices = price_list()
    return LinePriceBody(
        **{priority.label: shown_credits(prices.price(name, Mode.AUTO, priority).line_micro) for priority in Priority}
    )


def _description(known: KnownModel | None) -> dict[str, Any]:
    fields = ("task", "architecture", "fine_tuned_on", "license")
    described: dict[str, Any] = {field: known and getattr(known, field) for field in fields}
    return described | {"figures": [FigureBody.of(figure) for figure in known.figures] if known else []}
