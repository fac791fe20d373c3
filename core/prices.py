"""The price list: what one line costs by model, mode and priority, out of one file that people can read."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from core.amounts import CREDIT_MICRO
from core.catalogue import known_as
from core.settings import settings
from core.states import Mode, Priority

#: What is never charged, for people.
FREE = (
    "images that failed",
    "images that were canceled or expired",
    "blank lines",
    "a request that repeats an Idempotency-Key",
)
#: A free line would leave no entry, so that nothing would tell that it was read.
_Credits = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=6)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ByPriority(_Strict):
    interactive: _Credits
    normal: _Credits
    bulk: _Credits


class _ByMode(_Strict):
    line: _ByPriority
    auto: _ByPriority
    page: _ByPriority


class _Exception(_Strict):
    line: _ByPriority | None = None
    auto: _ByPriority | None = None
    page: _ByPriority | None = None


class _File(_Strict):
    version: str = Field(min_length=1, max_length=64)
    #: What a list says that says nothing: each beam takes a row of its own in the decoder, and shares the encoder.
    extra_beam: Annotated[Decimal, Field(ge=0, le=100, decimal_places=6)] = Decimal("0.5")
    default: _ByMode
    models: dict[str, _Exception] = {}


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one line of a job costs, and by which list."""

    line_micro: int
    version: str


class PriceList:
    """All prices of one version.

    Args:
        path: The file; `core/prices.toml` says how it is written.

    Raises:
        ValueError: The file is no price list.
    """

    def __init__(self, path: Path) -> None:
        self._file = _File.model_validate(tomllib.loads(path.read_text(), parse_float=Decimal))

    @property
    def version(self) -> str:
        """The name of this list."""
        return self._file.version

    @property
    def models(self) -> tuple[str, ...]:
        """Models that have prices of their own."""
        return tuple(self._file.models)

    @property
    def extra_beam(self) -> Decimal:
        """The part of a line's price that each beam beyond the first costs more."""
        return self._file.extra_beam

    def price(self, model: str, mode: Mode, priority: Priority, *, beams: int = 1) -> Price:
        """What one line costs now, rounded up to a micro-credit where beams make it no whole number of them."""
        exception = self._file.models.get(model) or self._file.models.get(known_as(model), _Exception())
        row: _ByPriority = getattr(exception, mode.value) or getattr(self._file.default, mode.value)
        credits: Decimal = getattr(row, priority.label)
        micro = credits * CREDIT_MICRO * (1 + (beams - 1) * self.extra_beam)
        return Price(line_micro=math.ceil(micro), version=self.version)


@lru_cache(maxsize=1)
def price_list() -> PriceList:
    """The prices of this process, read once."""
    return PriceList(settings().prices)


def held_lines(mode: Mode, *, images: int, max_lines: int) -> int:
    """Lines that a job of so many images holds at first: a page its ceiling, any other image one."""
    return images * (max_lines if mode is Mode.PAGE else 1)
