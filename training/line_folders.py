"""Folders of line images with texts: TSV, `.gt.txt` pairs, ALTO or PAGE pages."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from training.page_xml import read_page_xml
from training.samples import LineSample, normalize_text
from training.unusable_input import UnusableInput, read_utf8

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def read_corpus(path: Path) -> list[LineSample]:
    """Read all lines of a corpus.

    Args:
        path: A TSV file, or a folder that holds TSV files, `.gt.txt` pairs, or ALTO or PAGE pages.

    Returns:
        The lines with a text, in the order of their files.

    Raises:
        UnusableInput: No line with a text was found, a file cannot be read, or a named image is missing.
    """
    lines = _tsv_lines(path) if path.is_file() else _folder_lines(path)
    samples = [line for line in lines if line.text]
    if not samples:
        raise UnusableInput(f"{path}: no TSV, .gt.txt pair, ALTO or PAGE page with a text was found")
    missing = next((s.image for s in samples if not s.image.is_file()), None)
    if missing:
        raise UnusableInput(f"{missing}: named in {path}, but there is no such file")
    return samples


def _folder_lines(folder: Path) -> Iterator[LineSample]:
    tables = sorted(folder.glob("*.tsv"))
    for table in tables:
        yield from _tsv_lines(table)
    if tables:
        return
    for transcript in sorted(folder.rglob("*.gt.txt")):
        stem = transcript.name.removesuffix(".gt.txt")
        yield LineSample(
            image=_image_beside(transcript, stem),
            text=normalize_text(read_utf8(transcript)),
            page=transcript.parent.name,
            source=folder.name,
        )
    for page in sorted(folder.rglob("*.xml")):
        yield from read_page_xml(page, source=folder.name)


def _tsv_lines(table: Path) -> Iterator[LineSample]:
    """Read a table: columns file, page, kind, text; or file, text.

    The images lie beside the table or in a folder of its name.
    """
    nested = table.with_suffix("")
    images = nested if nested.is_dir() else table.parent
    rows = StringIO(read_utf8(table), newline="")
    for row in csv.reader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
        if len(row) < 2 or row[0] == "file":
            continue
        file, page, kind = (row[0], row[1], row[2]) if len(row) >= 4 else (row[0], Path(row[0]).stem, "")
        yield LineSample(
            image=images / file,
            text=normalize_text(row[-1]),
            page=page,
            source=table.parent.name,
            kind=kind,
        )


def _image_beside(transcript: Path, stem: str) -> Path:
    for suffix in _IMAGE_SUFFIXES:
        image = transcript.with_name(stem + suffix)
        if image.is_file():
            return image
    return transcript.with_name(stem + _IMAGE_SUFFIXES[0])
