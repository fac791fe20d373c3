from pathlib import Path

import pytest
from PIL import Image

from training.line_folders import read_corpus
from training.line_images import load_line
from training.unusable_input import UnusableInput

_PAGE = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">
<Page imageFilename="scan.png" imageWidth="40" imageHeight="30"><TextRegion id="r"><TextLine id="l">
<Coords points="5,5 24,5 24,14 5,14"/><Word id="w"><TextEquiv><Unicode>Cher</Unicode></TextEquiv></Word>
<TextEquiv><Unicode>Cher Monsieur</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""
_ALTO = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description><sourceImageInformation>
<fileName>scan.png</fileName></sourceImageInformation></Description><Layout><Page><PrintSpace><TextBlock>
<TextLine HPOS="5" VPOS="5" WIDTH="20" HEIGHT="10"><String CONTENT="Dear"/><SP/><String CONTENT="Sir:-"/></TextLine>
</TextBlock></PrintSpace></Page></Layout></alto>"""


def _image(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    Image.new("L", size, 100).save(path)


def test_a_table_of_four_columns_names_page_and_kind(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "train.tsv").write_text("a.png\tpage1\tPrint\tOffice of\n", encoding="utf-8")
    (sample,) = read_corpus(tmp_path)
    assert (sample.page, sample.kind, sample.text, sample.image.name) == ("page1", "Print", "Office of", "a.png")


def test_a_table_of_two_columns_may_have_a_header(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "lines.tsv").write_text('file\ttext\na.png\t"Hus-ya"\n', encoding="utf-8")
    assert [sample.text for sample in read_corpus(tmp_path / "lines.tsv")] == ['"Hus-ya"']


def test_images_may_lie_in_the_folder_that_the_table_is_named_after(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    _image(tmp_path / "train" / "a.png")
    (tmp_path / "train.tsv").write_text("a.png\ttext\n", encoding="utf-8")
    assert read_corpus(tmp_path / "train.tsv")[0].image == tmp_path / "train" / "a.png"


def test_a_transcript_finds_the_image_beside_it(tmp_path: Path) -> None:
    _image(tmp_path / "001.jpg")
    (tmp_path / "001.gt.txt").write_text("1er décembre\n", encoding="utf-8")
    (sample,) = read_corpus(tmp_path)
    assert (sample.image.name, sample.text) == ("001.jpg", "1er décembre")


@pytest.mark.parametrize(("xml", "text"), [(_PAGE, "Cher Monsieur"), (_ALTO, "Dear Sir:-")])
def test_a_line_of_a_page_is_cut_out_by_its_outline(tmp_path: Path, xml: str, text: str) -> None:
    _image(tmp_path / "scan.png")
    (tmp_path / "scan.xml").write_text(xml, encoding="utf-8")
    (sample,) = read_corpus(tmp_path)
    line = load_line(sample, max_height_px=64)
    assert sample.text == text
    assert 10 <= line.shape[0] <= 11
    assert 20 <= line.shape[1] <= 21


def test_what_lies_outside_the_outline_becomes_white(tmp_path: Path) -> None:
    _image(tmp_path / "scan.png")
    triangle = _PAGE.replace("5,5 24,5 24,14 5,14", "5,5 24,14 5,14")
    (tmp_path / "scan.xml").write_text(triangle, encoding="utf-8")
    line = load_line(read_corpus(tmp_path)[0], max_height_px=64)
    assert line[0, -1] == 255
    assert line[-1, 0] == 100


def test_high_lines_are_scaled_down(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", (100, 50))
    (tmp_path / "lines.tsv").write_text("a.png\ttext\n", encoding="utf-8")
    assert load_line(read_corpus(tmp_path)[0], max_height_px=25).shape == (25, 50)


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    with pytest.raises(UnusableInput, match="no TSV"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("lines.tsv", "a.png\té\n".encode("latin-1"), "not UTF-8"),
        ("lines.tsv", b"a.png\t \n", "no TSV"),
        ("a.gt.txt", "é".encode("latin-1"), "not UTF-8"),
        ("a.xml", b"<alto>", "not well-formed XML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file: str, content: bytes, reason: str) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UnusableInput, match=f"{tmp_path}.*{reason}"):
        read_corpus(tmp_path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "lines.tsv").write_text("gone.png\ttext\n", encoding="utf-8")
    with pytest.raises(UnusableInput, match=r"gone\.png"):
        read_corpus(tmp_path)
