"""How the text of a line grows from token to token."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

#: Stands for a part of a character.
NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class TokenTexts:
    """Texts of tokens, by a checkpoint's own tokenizer; not safe for threads.

    How a token reads can depend on its successors (half characters, spaces before punctuation that are tidied away), so
    what is settled after each token is what the text so far and the whole text agree on. To decode every beginning of a
    line takes 0.8 ms for 50 tokens. What a token adds to a text is therefore remembered, and where a line is nothing
    but the sum of its tokens, as nearly all are, its beginnings are put together from that.

    Args:
        tokenizer: Its special tokens write nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        #: What each token adds to a text that has begun.
        self._added: dict[int, str] = {}

    @property
    def are_tidied(self) -> bool:
        """Whether the tokenizer tidies away spaces before punctuation."""
        return bool(self._tokenizer.clean_up_tokenization_spaces)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return self._decoded(tokens, is_tidied=None)

    def growth_of(self, tokens: Sequence[int]) -> tuple[str, list[int]]:
        """The text of tokens, and how many of its characters are settled after each of them."""
        text = self.text_of(tokens)
        beginnings = self._summed(tokens, text)
        if beginnings is None:
            beginnings = [self.text_of(tokens[:count]) for count in range(1, len(tokens) + 1)]
        return text, [agreement(beginning, text) for beginning in beginnings]

    def _summed(self, tokens: Sequence[int], text: str) -> list[str] | None:
        """The texts of all beginnings, put together; None where the whole is not the sum of its tokens."""
        raw = self._decoded(tokens, is_tidied=False) if self.are_tidied else text
        sums: list[str] = []
        for count, token in enumerate(tokens, start=1):
            # the first token that writes something does so without the space before it
            has_begun = bool(sums and sums[-1])
            sums.append(sums[-1] + self._adds(token) if has_begun else self._decoded(tokens[:count], is_tidied=False))
        if sums[-1] != raw or NO_CHARACTER in raw:
            return None
        return sums if raw == text else [self._tokenizer.clean_up_tokenization(begun) for begun in sums]

    def _adds(self, token: int) -> str:
        added = self._added.get(token)
        if added is None:
            once, twice = (self._decoded([token] * count, is_tidied=False) for count in (1, 2))
            added = self._added[token] = twice[len(once) :]
        return added

    def _decoded(self, tokens: Sequence[int], *, is_tidied: bool | None) -> str:
        """Text without special tokens; None leaves it to the tokenizer whether it is tidied."""
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=is_tidied)
        assert isinstance(text, str)  # a list comes only for a batch
        return text


def agreement(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    if other.startswith(one):
        return len(one)
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
