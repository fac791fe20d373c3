"""XML documents out of elements: indented, and of characters that XML can carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, indent, tostring

# https://www.w3.org/TR/xml/#charsets
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def root_of(name: str, *, namespace: str, schema: str) -> Element:
    """The root of a document, all of whose elements are in one namespace; `schema` is where that is described."""
    attributes = {
        "xmlns": namespace,
        "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xsi:schemaLocation": f"{namespace} {schema}",
    }
    return Element(name, attributes)


def add(parent: Element, name: str, attributes: Mapping[str, object] | None = None, text: str | None = None) -> Element:
    """A new child; attributes that are None are left out, and characters that XML has not are replaced."""
    present = {key: _clean(str(value)) for key, value in (attributes or {}).items() if value is not None}
    child = SubElement(parent, name, present)
    child.text = None if text is None else _clean(text)
    return child


def document_of(root: Element, *, html: bool = False) -> bytes:
    """The whole document as UTF-8; with `html` also for those who read it as HTML, to which `<div/>` opens a div."""
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True, short_empty_elements=not html)
    return text + b"\n"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
