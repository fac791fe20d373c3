"""Running text of two dictionaries that Debian packages, for `--texts`: `python -m training.prose FOLDER`.

Definitions and citations: of Émile Littré's French dictionary, and of Webster's of 1913. Debian installs them with
`apt-get install stardict-xmlittre dict-gcide`.
"""

import gzip
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

_LITTRE = Path("/usr/share/stardict/dic/XMLittre.dict.dz")
_GCIDE = Path("/usr/share/dictd/gcide.dict.dz")
#: Begins how a word is spoken and what kind of word it is.
_SPOKEN = "<i><small>"
#: Columns by which a citation is moved in at least; definitions are by 3 to 6.
_CITATION_DEPTH = 10
_SENTENCE = r"(?!Note:|Syn:|See )[A-Z][^=]*[.!?]$"
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
    # An entry begins with how its word is spoken, on the last line of the entry before it.
    for line in dictionary.replace(_SPOKEN, "\n" + _SPOKEN).split("\n"):
        heading = re.search(r"<b><big>(.*?)</big>", line)
        if heading:
            is_old = heading.group(1).startswith(("HISTORIQUE", "ÉTYMOLOGIE"))
        elif line.startswith(_SPOKEN):
            is_old = False
            continue
        if is_old:
            continue
        if 'foreground="#0000CD"' in line:
            paragraphs += map(_plain, re.findall(r'<span foreground="#0000CD">(.*?)</span>', line))
        else:
            paragraphs.append(re.sub(r"^\d+°\s*", "", _plain(line)))
    return [paragraph for paragraph in paragraphs if _is_prose(paragraph)]


def gcide_prose(dictionary: str) -> list[str]:
    """Take the definitions, and the citations that stand by themselves, as far as they are whole sentences."""
    paragraphs = [
        re.sub(r"\s+", " ", re.sub(r"\s*\[[^\]]*\]|[{}]", "", block)).partition(" --")[0].strip()
        for block in _gcide_blocks(dictionary)
        if not re.search(r"\w\[", block)  # a letter that is spelled out, as in C[ae]sar
    ]
    return [text for text in paragraphs if _is_prose(text) and re.match(_SENTENCE, text)]


def _gcide_blocks(dictionary: str) -> Iterator[str]:
    """Give lines that belong together: a definition or a citation, which is moved in further."""
    block: list[str] = []
    is_citation = False
    for line in dictionary.split("\n"):
        text, depth = line.strip(), len(line) - len(line.lstrip())
        begins = re.match(r"\d+\. ", text)
        ends = not text or not depth or text.startswith(("[", "--"))
        if begins or ends or (depth >= _CITATION_DEPTH) != is_citation:
            yield " ".join(block)
            block = []
        is_citation = depth >= _CITATION_DEPTH
        if not ends:
            block.append(text[begins.end() :] if begins else text)
    yield " ".join(block)


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
