"""A job as hOCR: one page for each image, in the classes that Tesseract writes.

Source: http://kba.github.io/hocr-spec/1.2/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from api.transcribed import TranscribedImage, words_of
from api.xml_documents import add, document_of
from core.transcript import BoundingBox, Line

_CLASSES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"


def hocr_of(images: Sequence[TranscribedImage]) -> bytes:
    """All images of a job as one document.

    Where a word stands in its line is not known: each has the share of the line's width that its letters have of the
    line's, so that what searches the text finds about the place.
    """
    root = Element("html", {"xmlns": "http://www.w3.org/1999/xhtml"})
    head = add(root, "head")
    add(head, "title", text="inkqueue")
    add(head, "meta", {"http-equiv": "Content-Type", "content": "text/html;charset=utf-8"})
    add(head, "meta", {"name": "ocr-system", "content": "inkqueue"})
    add(head, "meta", {"name": "ocr-capabilities", "content": _CLASSES})
    body = add(root, "body")
    for image in images:
        _add_page(body, image)
    return document_of(root, html=True)


def _add_page(body: Element, image: TranscribedImage) -> None:
    page = f"page_{image.number}"
    name = image.name.replace('"', "'")
    title = f'image "{name}"; {_box(image.box)}; ppageno {image.number}'
    element = add(body, "div", {"class": "ocr_page", "id": page, "title": title})
    if not image.lines:
        return
    place = {"title": _box(image.text_box)}
    area = add(element, "div", {"class": "ocr_carea", "id": f"block_{page}", **place})
    paragraph = add(area, "p", {"class": "ocr_par", "id": f"par_{page}", **place})
    for line in image.lines:
        line_id = f"line_{page}_{line.index}"
        written = add(paragraph, "span", {"class": "ocr_line", "id": line_id, "title": _box(line.bbox)})
        for number, (box, confidence, text) in enumerate(_words(line)):
            known = "" if confidence is None else f"; x_wconf {confidence * 100:.0f}"
            word = {"class": "ocrx_word", "id": f"word_{line_id}_{number}", "title": _box(box) + known}
            add(written, "span", word, text)


def _words(line: Line) -> Iterator[tuple[BoundingBox, float | None, str]]:
    """The boxes of a line's words, side by side with room for a space, their confidences and texts."""
    words = words_of(line)
    letters = max(1, sum(len(word.text) + 1 for word in words) - 1)
    width, began = line.bbox.xmax - line.bbox.xmin, 0
    for word in words:
        ended = began + len(word.text)
        xmin = line.bbox.xmin + min(width * began // letters, width - 1)
        xmax = max(line.bbox.xmin + width * ended // letters, xmin + 1)
        yield BoundingBox(xmin=xmin, ymin=line.bbox.ymin, xmax=xmax, ymax=line.bbox.ymax), word.confidence, word.text
        began = ended + 1


def _box(box: BoundingBox) -> str:
    return f"bbox {box.xmin} {box.ymin} {box.xmax} {box.ymax}"
