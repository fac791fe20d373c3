"""Lines of ALTO and PAGE pages, with their outlines."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from training.samples import LineSample, normalize_text
from training.unusable_input import UnusableInput

Polygon = tuple[tuple[int, int], ...]


def read_page_xml(page: Path, *, source: str) -> Iterator[LineSample]:
    """Read the lines of one ALTO or PAGE file.

    The image is the file that the page names, beside the page; else the page's own name with another suffix.
    Other XML files yield nothing.

    Raises:
        UnusableInput: It is no XML.
    """
    try:
        root = ET.parse(page).getroot()
    except ET.ParseError as error:
        raise UnusableInput(f"{page}: not well-formed XML: {error}") from error
    schema = _local(root.tag)
    if schema not in ("alto", "PcGts"):
        return
    image = _page_image(page, root)
    for line in _descendants(root, "TextLine"):
        text, polygon = _alto_line(line) if schema == "alto" else _page_line(line)
        if polygon:
            yield LineSample(image=image, text=normalize_text(text), page=page.stem, source=source, polygon=polygon)


def _page_image(page: Path, root: ET.Element) -> Path:
    names = [element.get("imageFilename", "") for element in _descendants(root, "Page")]
    names += [element.text or "" for element in _descendants(root, "fileName")]
    for name in names:
        if name.strip():
            return page.with_name(Path(name.strip().replace("\\", "/")).name)
    beside = (page.with_suffix(suffix) for suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"))
    return next((image for image in beside if image.is_file()), page.with_suffix(".png"))


def _page_line(line: ET.Element) -> tuple[str, Polygon]:
    """Read a line's own transcription, not that of its words, and its Coords."""
    readings = sorted(_children(line, "TextEquiv"), key=lambda reading: int(reading.get("index", 0)))
    text = next((unicode.text or "" for reading in readings for unicode in _children(reading, "Unicode")), "")
    coords = next(iter(_children(line, "Coords")), None)
    return text, _points(coords.get("points", "") if coords is not None else "")


def _alto_line(line: ET.Element) -> tuple[str, Polygon]:
    """Join a line's strings; its outline is its Shape, else its box."""
    text = " ".join(string.get("CONTENT", "") for string in _children(line, "String"))
    for polygon in _descendants(line, "Polygon"):
        return text, _points(polygon.get("POINTS", ""))
    try:
        x, y, width, height = (round(float(line.attrib[name])) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    except KeyError:
        return text, ()
    return text, ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def _points(points: str) -> Polygon:
    """Parse `x,y x,y` (PAGE, ALTO 4.2) and `x y x y` (older ALTO)."""
    numbers = [round(float(number)) for number in points.replace(",", " ").split()]
    return tuple(zip(numbers[::2], numbers[1::2], strict=False)) if len(numbers) >= 6 else ()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _descendants(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (found for found in element.iter() if _local(found.tag) == name)


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [child for child in element if _local(child.tag) == name]
