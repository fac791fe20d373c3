from __future__ import annotations

from pathlib import Path

import pytest

from core.images import ImageHeader
from core.prices import PriceList, held_lines
from core.quotes import estimated_lines
from core.settings import Settings
from core.states import Mode, Priority

PRICES = PriceList(Settings().prices)


@pytest.mark.parametrize("model", ["ppocr-v6", "trocr-tiny"])
def test_a_bundled_model_at_normal_priority_costs_one_credit_a_line(model: str) -> None:
    assert {PRICES.price(model, mode, Priority.NORMAL).line_micro for mode in Mode} == {1_000_000}


@pytest.mark.parametrize("model", [*Settings().models, *PRICES.models])
def test_the_less_urgent_a_line_the_cheaper(model: str) -> None:
    for mode in Mode:
        interactive, normal, bulk = (PRICES.price(model, mode, priority).line_micro for priority in Priority)
        assert interactive > normal > bulk


def test_what_a_model_leaves_out_costs_the_default(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    row = "{ interactive = 3, normal = 2, bulk = 0.000001 }"
    default = f"line = {row}\nauto = {row}\npage = {row}\n"
    file.write_text(f'version = "x"\n[default]\n{default}[models.dear]\nline = {row.replace("2", "9")}\n')
    prices = PriceList(file)
    assert prices.price("dear", Mode.LINE, Priority.NORMAL).line_micro == 9_000_000
    assert prices.price("dear", Mode.PAGE, Priority.BULK).line_micro == 1


@pytest.mark.parametrize(
    ("beams", "bulk_micro", "dear_micro"),
    [
        (1, 500_000, 3_000_000),
        (2, 750_000, 4_500_000),  # 0.5 x 1.5, 3 x 1.5
        (5, 1_500_000, 9_000_000),  # 0.5 x 3, 3 x 3
        (10, 2_750_000, 16_500_000),  # 0.5 x 5.5, 3 x 5.5
    ],
)
def test_each_beam_beyond_the_first_costs_half_a_line_more(beams: int, bulk_micro: int, dear_micro: int) -> None:
    assert PRICES.price("trocr-tiny", Mode.LINE, Priority.BULK, beams=beams).line_micro == bulk_micro
    dear = PRICES.price("microsoft/trocr-base-handwritten", Mode.AUTO, Priority.INTERACTIVE, beams=beams)
    assert dear.line_micro == dear_micro


@pytest.mark.parametrize(
    ("extra_beam", "micro"), [("0", 1_000_000), ("1", 3_000_000), ("0.0000005", None), ("-1", None)]
)
def test_what_a_beam_costs_is_the_lists_own(tmp_path: Path, extra_beam: str, micro: int | None) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(Settings().prices.read_text().replace("extra_beam = 0.5", f"extra_beam = {extra_beam}"))
    if micro is None:
        with pytest.raises(ValueError, match="extra_beam"):
            PriceList(file)
    else:
        assert PriceList(file).price("trocr-tiny", Mode.LINE, Priority.NORMAL, beams=3).line_micro == micro


def test_a_fraction_of_a_micro_credit_is_rounded_up(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(Settings().prices.read_text().replace("bulk = 0.5", "bulk = 0.000001"))
    assert PriceList(file).price("trocr-tiny", Mode.LINE, Priority.BULK, beams=2).line_micro == 2  # 1 x 1.5


@pytest.mark.parametrize("price", ["0", "-1", "0.0000001", '"one"'])
def test_a_price_that_is_none_stops_the_process(tmp_path: Path, price: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(Settings().prices.read_text().replace("normal = 1,", f"normal = {price},"))
    with pytest.raises(ValueError, match="normal"):
        PriceList(file)


def test_a_page_holds_its_ceiling_and_any_other_image_one_line() -> None:
    assert [held_lines(mode, images=3, max_lines=40) for mode in (Mode.LINE, Mode.AUTO, Mode.PAGE)] == [3, 3, 120]


@pytest.mark.parametrize(
    ("width", "height", "lines"),
    [(2480, 3508, 28), (3508, 2480, 14), (1000, 100, 2), (1000, 10, 1), (1000, 9000, 40)],  # 20 x height / width
)
def test_the_lines_of_a_page_are_guessed_from_its_shape(width: int, height: int, lines: int) -> None:
    header = ImageHeader(width=width, height=height, content_type="image/png", extension="png")
    assert estimated_lines(header, max_lines=40) == lines
