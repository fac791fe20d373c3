"""Texts for synthetic lines."""

import random
from collections.abc import Sequence
from pathlib import Path

from training.unusable_input import read_utf8

_PUNCTUATION = (",", ".", ";", ":", "!", "?", " :", " ;", ",", ".", ",", ".")
_BRACKETS = (("(", ")"), ("«\u00a0", "\u00a0»"), ('"', '"'), ("« ", " »"), ("[", "]"), ("'", "'"))
_MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre"),
    *("décembre", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)


class TextSource:
    """Draws texts of a wanted length from running text and word lists."""

    def __init__(self, running_text: Sequence[str], words: Sequence[str]) -> None:
        """Keep what to draw from.

        Args:
            running_text: Lines or paragraphs: transcriptions of the training set, never of a test set, and other prose.
            words: Dictionary words, any case.
        """
        #: What to draw from, as it was given; no blank texts.
        self.running_text = [text for text in running_text if text.strip()]
        self.words = list(words)

    def draw(self, rng: random.Random, *, max_chars: int) -> str:
        """Draw a text of 1 to `max_chars` characters: running text, dictionary words or figures."""
        kind = rng.random()
        wanted = rng.randint(max(1, max_chars // 4), max_chars)
        if kind >= 0.92 or not (self.running_text or self.words):
            text = _figures(rng, wanted)
        elif self.running_text and (kind < 0.55 or not self.words):
            text = self._from_running_text(rng, wanted)
        else:
            text = self._from_words(rng, wanted)
        if rng.random() < 0.06:
            text = text.upper()
        return text[:max_chars].strip() or "a"

    def _from_running_text(self, rng: random.Random, wanted: int) -> str:
        taken: list[str] = []
        while len(" ".join(taken)) < wanted:
            words = rng.choice(self.running_text).split()
            taken += words[rng.randrange(len(words)) :]
        return _whole_words(taken, wanted)

    def _from_words(self, rng: random.Random, wanted: int) -> str:
        taken: list[str] = []
        while len(" ".join(taken)) < wanted:
            word = rng.choice(self.words)
            if rng.random() < 0.18:
                word = word[:1].upper() + word[1:]
            if rng.random() < 0.04:
                word = _figures(rng, 6)
            if rng.random() < 0.05:
                opening, closing = rng.choice(_BRACKETS)
                word = opening + word + closing
            if rng.random() < 0.16:
                word += rng.choice(_PUNCTUATION)
            if rng.random() < 0.03:
                word += "-"
            taken.append(word)
        return _whole_words(taken, wanted)


def _whole_words(words: list[str], wanted: int) -> str:
    text = " ".join(words)
    if len(text) <= wanted:
        return text
    cut = text.rfind(" ", 0, wanted + 1)
    return text[: cut if cut > 0 else wanted].replace("\u00a0", " ")


def _figures(rng: random.Random, wanted: int) -> str:
    forms = (
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 5))),
        lambda: f"{rng.randint(1, 31)} {rng.choice(_MONTHS)} {rng.randint(1600, 2030)}",
        lambda: f"{rng.choice(_MONTHS)} {rng.randint(1, 31)}, {rng.randint(1800, 2030)}",
        lambda: f"{rng.randint(1, 31):02d}/{rng.randint(1, 12):02d}/{rng.randint(1900, 2030)}",
        lambda: f"{rng.randint(0, 9999)},{rng.randint(0, 99):02d} {rng.choice('€$£%')}",
        lambda: f"${rng.randint(1, 9999)}.{rng.randint(0, 99):02d}",
        lambda: f"{rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}. {rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}.",
        lambda: f"n° {rng.randint(1, 999)}",
        lambda: f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d}",
        lambda: f"({rng.randint(1000, 2030)}-{rng.randint(1000, 2030)})",
    )
    text = rng.choice(forms)()
    return text if len(text) <= max(wanted, 4) else text[: max(wanted, 1)].strip()


def read_text_lines(files: Sequence[Path]) -> list[str]:
    """Read word lists or running text (UTF-8): the lines that are not blank, in order, each once for each file given.

    Raises:
        UnusableInput: A file is not UTF-8.
    """
    return [line for file in files for line in dict.fromkeys(map(str.strip, read_utf8(file).splitlines())) if line]
