"""An image as ALTO 4, the form of libraries and of eScriptorium: a page with its lines, and their words.

Source: https://www.loc.gov/standards/alto/v4/alto-4-2.xsd
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from api.transcribed import TranscribedImage, words_of, written
from api.xml_documents import add, document_of, root_of
from core.transcript import BoundingBox, Line, Word

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-2.xsd"


def alto_of(image: TranscribedImage) -> bytes:
    """An image as a document of its own; where a word stands in its line is not known, and not said."""
    root = root_of("alto", namespace=_NAMESPACE, schema=_SCHEMA)
    _describe(add(root, "Description"), image)
    page = {"ID": "page", "PHYSICAL_IMG_NR": image.number + 1, "WIDTH": image.width, "HEIGHT": image.height}
    space = add(add(add(root, "Layout"), "Page", page), "PrintSpace", _place(image.box))
    if image.lines:
        block = add(space, "TextBlock", {"ID": "block", **_place(image.text_box)})
        for line in image.lines:
            _add_line(block, line)
    return document_of(root)


def _describe(description: Element, image: TranscribedImage) -> None:
    add(description, "MeasurementUnit", text="pixel")
    # Without it, eScriptorium does not know to which picture a document belongs.
    add(add(description, "sourceImageInformation"), "fileName", text=image.name)
    processing = add(description, "Processing", {"ID": "reading"})
    if image.read_at is not None:
        add(processing, "processingDateTime", text=image.read_at.isoformat())
    add(processing, "processingStepSettings", text=f"model: {image.model}")
    add(add(processing, "processingSoftware"), "softwareName", text="inkqueue")


def _add_line(block: Element, line: Line) -> None:
    element = add(block, "TextLine", {"ID": f"line_{line.index}", **_place(line.bbox)})
    # A line must hold something, though nothing was read in it.
    for number, word in enumerate(words_of(line) or [Word(text="", confidence=line.confidence)]):
        if number:
            add(element, "SP")
        word_id = f"line_{line.index}_word_{number}"
        add(element, "String", {"ID": word_id, "CONTENT": word.text, "WC": written(word.confidence)})


def _place(box: BoundingBox) -> dict[str, object]:
    return {"HPOS": box.xmin, "VPOS": box.ymin, "WIDTH": box.xmax - box.xmin, "HEIGHT": box.ymax - box.ymin}
