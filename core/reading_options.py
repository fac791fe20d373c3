"""What a caller may ask of the reading of each line."""

from __future__ import annotations

from dataclasses import dataclass

#: The most beams of a line.
MAX_BEAMS = 10


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The same for all images of a job; the defaults ask for nothing."""

    #: Follow so many beginnings of the text at once, 1 to `MAX_BEAMS`; 1 reads greedily.
    beams: int = 1
    #: Read at most so many tokens of a line; None is the model's own limit.
    max_new_tokens: int | None = None
    #: Keep the tokens of each line, and so many of the likeliest ones in the place of each; None keeps neither.
    top_logprobs: int | None = None
    #: Send what is settled of a text while it is read.
    watched: bool = False
