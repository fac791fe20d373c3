"""What training was given and cannot use."""

from pathlib import Path


class UnusableInput(ValueError):
    """A corpus, a text, a font or a checkpoint is missing or cannot be read; the message is for whoever named it."""


def read_utf8(file: Path) -> str:
    """Read a text file.

    Raises:
        UnusableInput: It is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnusableInput(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from error
