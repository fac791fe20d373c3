"""Character and word error rate.

Both are edit distances summed over lines, divided by the summed length of the references, so that long lines weigh more
than short ones. Texts are brought to NFC and white space is folded; case, punctuation and accents count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from training.samples import normalize_text


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """How far readings are from their references; 0 is perfect, more than 1 is possible."""

    #: Character edits per reference character.
    cer: float
    #: Word edits per reference word.
    wer: float
    #: Number of lines measured.
    lines: int


def error_rates(references: Sequence[str], readings: Sequence[str]) -> ErrorRates:
    """Compare readings with their references, line by line.

    Raises:
        ValueError: The two differ in number, or there is no reference text at all.
    """
    pairs = [(normalize_text(a), normalize_text(b)) for a, b in zip(references, readings, strict=True)]
    characters = sum(len(reference) for reference, _ in pairs)
    words = sum(len(reference.split()) for reference, _ in pairs)
    if not characters:
        raise ValueError("there is no reference text to measure against")
    return ErrorRates(
        cer=sum(Levenshtein.distance(*pair) for pair in pairs) / characters,
        wer=sum(Levenshtein.distance(a.split(), b.split()) for a, b in pairs) / words,
        lines=len(pairs),
    )
