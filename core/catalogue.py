"""The models that the service knows, out of one file that people can read, and by which names they are meant."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FILE = Path(__file__).resolve().parent / "models.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """How well a model reads one data set."""

    dataset: str
    #: `cer` and `wer` are shares, the others percent.
    metric: Literal["cer", "wer", "f1", "word_accuracy"]
    value: float = Field(ge=0, le=100)
    #: Who says so.
    source: str


class KnownModel(_Strict):
    """What is known of a model whether a worker serves it or not."""

    #: What callers may write instead of the id.
    short_id: str
    owned_by: str
    task: str
    architecture: str
    #: Whether it can follow several beginnings of a text at once.
    follows_beams: bool = True
    parameters: int | None = None
    fine_tuned_on: str | None = None
    license: str
    figures: tuple[Figure, ...]


class _File(_Strict):
    sources: dict[str, str]
    models: dict[str, KnownModel]

    @model_validator(mode="after")
    def _sources_are_there(self) -> _File:
        for model in self.models.values():
            for figure in model.figures:
                if figure.source not in self.sources:
                    raise ValueError(f"there is no source {figure.source}")
        return self


@lru_cache(maxsize=1)
def catalogue() -> Mapping[str, KnownModel]:
    """All models of the file by id, each figure with its source in full."""
    file = _File.model_validate(tomllib.loads(_FILE.read_text()))
    return {
        model_id: model.model_copy(
            update={
                "figures": tuple(
                    figure.model_copy(update={"source": file.sources[figure.source]}) for figure in model.figures
                )
            }
        )
        for model_id, model in file.models.items()
    }


def known_as(name: str) -> str:
    """The id of the model that a name means: without the revision, and in full where the name is a short id."""
    model_id = name.partition("@")[0]
    return next((full for full, model in catalogue().items() if model.short_id == model_id), model_id)


def follows_beams(name: str) -> bool:
    """Whether a model can follow several beginnings of a text; one that is not known is taken to be a TrOCR."""
    known = catalogue().get(known_as(name))
    return known is None or known.follows_beams


def served_as(name: str, served: Collection[str]) -> str | None:
    """The name under which workers serve the model that a caller means; None when none does.

    Args:
        name: As callers write it: the served name itself, the id of a model of the catalogue, or its short id.
        served: What workers serve, as operators wrote it.
    """
    if name in served:
        return name
    # A caller who names a revision means that one and no other.
    return None if "@" in name else next((one for one in served if known_as(one) == known_as(name)), None)
