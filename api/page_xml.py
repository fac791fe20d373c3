"""An image as PAGE-XML of 2019, the form of Transkribus and of OCR-D: a page with its lines.

Source: https://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15/pagecontent.xsd
"""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from api.transcribed import TranscribedImage, written
from api.xml_documents import add, document_of, root_of
from core.transcript import BoundingBox, Line

_NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


def page_xml_of(image: TranscribedImage) -> bytes:
    """An image as a document of its own; words would need places in their lines, which are not known."""
    root = root_of("PcGts", namespace=_NAMESPACE, schema=f"{_NAMESPACE}/pagecontent.xsd")
    metadata = add(root, "Metadata")
    written_at = image.read_at or datetime.now(UTC)
    add(metadata, "Creator", text="inkqueue")
    add(metadata, "Created", text=written_at.isoformat())
    add(metadata, "LastChange", text=written_at.isoformat())
    add(metadata, "MetadataItem", {"type": "processingStep", "name": "recognition", "value": image.model})
    size = {"imageFilename": image.name, "imageWidth": image.width, "imageHeight": image.height}
    page = add(root, "Page", size)
    if image.lines:
        region = add(page, "TextRegion", {"id": "region"})
        add(region, "Coords", {"points": _corners(image.text_box)})
        for line in image.lines:
            _add_line(region, line)
    return document_of(root)


def _add_line(region: Element, line: Line) -> None:
    element = add(region, "TextLine", {"id": f"line_{line.index}"})
    add(element, "Coords", {"points": _corners(line.bbox)})
    add(add(element, "TextEquiv", {"conf": written(line.confidence)}), "Unicode", text=line.text)


def _corners(box: BoundingBox) -> str:
    """Its outermost pixels, clockwise from the top left."""
    right, bottom = box.xmax - 1, box.ymax - 1
    return f"{box.xmin},{box.ymin} {right},{box.ymin} {right},{bottom} {box.xmin},{bottom}"
