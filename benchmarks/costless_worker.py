"""A worker whose recognizer costs nothing, for `benchmarks/service.py`: `python -m benchmarks.costless_worker`.

Everything else of it is the real one: tickets, claims, storage, decoding, the batcher, results, charges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from core.logs import configure_logging
from core.transcript import Word
from worker.main import serve
from worker.recognizer import GroupSize, LineRequest, ModelCard, Recognition

#: The name that jobs ask for; no setting of the service leads to it.
COSTLESS_MODEL = "costless"
_ROWS = 64
_TEXT = "les toits de la ville sous la neige"


class CostlessRecognizer:
    """Reads the same text in every line, in one step and in no time."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    @property
    def card(self) -> ModelCard:
        """A model without weights."""
        return ModelCard(name=COSTLESS_MODEL, revision=None, sha256="0" * 64, device="none", dtype="none", parameters=0)

    @property
    def rows(self) -> int:
        """As many as a GPU has."""
        return _ROWS

    @property
    def group_size(self) -> GroupSize:
        """All rows at once."""
        return GroupSize(least=1, most=_ROWS)

    @property
    def ahead(self) -> None:
        """None: there is nothing to encode."""
        return None

    @property
    def max_aspect_ratio(self) -> float:
        """As TrOCR's."""
        return 24.0

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        """Take the lines."""
        self._keys += lines

    def step(self) -> Mapping[str, Recognition]:
        """Read them all."""
        ended, self._keys = self._keys, []
        return dict.fromkeys(ended, _RECOGNITION)

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        """Nothing: a line is read at once."""
        del keys
        return {}

    def drop(self, keys: Collection[str]) -> None:
        """Forget these lines."""
        self._keys = [key for key in self._keys if key not in keys]


_RECOGNITION = Recognition(
    text=_TEXT,
    confidence=0.97,
    words=tuple(Word(text=word, confidence=0.97) for word in _TEXT.split()),
    tokens=tuple(range(20)),
    token_logprobs=(-0.03,) * 20,
    flags=frozenset(),
)


if __name__ == "__main__":
    configure_logging()
    serve({COSTLESS_MODEL: CostlessRecognizer()})
