"""Running text of two dictionaries that Debian packages, for `--texts`: `python -m training.prose FOLDER`.

Definitions and citations: of Émile Littré's French dictionary, and of Webster's of 1913. Debian installs them with
`apt-get install stardict-xmlittre dict-gcide`.
"""

import gzip
import html
import re
from pathlib import Path
from typing import Annotated

import typer

_LITTRE = Path("/usr/share/stardict/dic/XMLittre.dict.dz")
_GCIDE = Path("/usr/share/dictd/gcide.dict.dz")
_FEWEST_CHARS, _MOST_CHARS = 40, 2000
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZàâçéèêëîïôùûüœÀÉÈ '\u2019,.;:!?-")
#: Shares of characters that must be among these, and of words that may be short or begin with a capital: references
#: and abbreviations are no sentences.
_LEAST_LETTERS, _MOST_ABBREVIATIONS = 0.96, 0.55


def main(
    folder: Annotated[Path, typer.Argument(help="Where littre.txt and gcide.txt are written.")],
    littre: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The French dictionary.")] = _LITTRE,
    gcide: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The English dictionary.")] = _GCIDE,
) -> None:
    """Write a paragraph a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file, prose_of in (("littre.txt", littre, littre_prose), ("gcide.txt", gcide, gcide_prose)):
        paragraphs = prose_of(gzip.decompress(file.read_bytes()).decode("utf-8", errors="replace"))
        (folder / name).write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
        print(f"{folder / name}: {len(paragraphs)} paragraphs, {sum(map(len, paragraphs))} characters")


def littre_prose(dictionary: str) -> list[str]:
    """Take the definitions and citations, without the sections on how a word was written in older French."""
    paragraphs: list[str] = []
    is_old = False
    for line in dictionary.split("\n"):
        heading = re.search(r"<b><big>(.*?)</big>", line)
        if heading:
            is_old = heading.group(1).startswith(("HISTORIQUE", "ÉTYMOLOGIE"))
        elif "<i><small>" in line:
            is_old = False
        if is_old:
            continue
        if 'foreground="#0000CD"' in line:
            paragraphs += map(_plain, re.findall(r'<span foreground="#0000CD">(.*?)</span>', line))
        else:
            paragraphs.append(re.sub(r"^\d+°\s*", "", _plain(line)))
    return [paragraph for paragraph in paragraphs if _is_prose(paragraph)]


def gcide_prose(dictionary: str) -> list[str]:
    """Take the citations and the definitions."""
    citations = re.findall(r'"([^"{}\\\[\]]{40,600})"', dictionary)
    definitions = re.findall(r"\n   (?:\d+\. )?([A-Z][^\n{}\\\[\]]+(?:\n      ?[^\n{}\\\[\]]+)*)", dictionary)
    paragraphs = [re.sub(r"\s+", " ", text).strip() for text in citations + definitions]
    return [text for text in paragraphs if _is_prose(text) and "=" not in text and "--" not in text]


def _plain(marked_up: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", marked_up))).strip()


def _is_prose(text: str) -> bool:
    if not _FEWEST_CHARS <= len(text) <= _MOST_CHARS:
        return False
    words = text.split()
    letters = sum(character in _LETTERS for character in text)
    abbreviations = sum(len(word) <= 2 or word[0].isupper() for word in words)
    return letters > _LEAST_LETTERS * len(text) and abbreviations < _MOST_ABBREVIATIONS * len(words)


if __name__ == "__main__":
    typer.run(main)
