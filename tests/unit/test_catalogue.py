"""What the catalogue knows, and which model a name means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.catalogue import catalogue, follows_beams, known_as, served_as
from core.prices import price_list
from core.states import Mode, Priority

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = "microsoft/trocr-small-handwritten"


def figures_of(model: str, metric: str) -> list[float]:
    return [figure.value for figure in catalogue()[model].figures if figure.metric == metric]


@pytest.mark.parametrize("model", ["ppocr-v6", "trocr-tiny"])
def test_the_readme_quotes_the_figures_of_the_catalogue(model: str) -> None:
    row = re.search(rf"^\| `{model}`.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    assert [float(cell) for cell in row.group().strip("| ").split("|")[2:]] == figures_of(model, "cer")


@pytest.mark.parametrize(("column", "model"), [(1, "trocr-tiny"), (2, "ppocr-v6")])
def test_the_model_card_has_the_figures_of_the_catalogue(column: int, model: str) -> None:
    card = (ROOT / "models/trocr-tiny/README.md").read_text()
    rows = [
        line.strip("| ").split(" | ") for line in card.splitlines() if re.match(r"\| (copiste|stanford h\w+) \(", line)
    ]
    cer_wer = [tuple(map(float, row[column].split(" / "))) for row in rows]
    assert cer_wer == list(zip(figures_of(model, "cer"), figures_of(model, "wer"), strict=True))


def test_the_published_figures_are_there_with_their_source() -> None:
    assert [figures_of(f"microsoft/trocr-{size}-handwritten", "cer") for size in ("small", "base", "large")] == [
        [0.0422],
        [0.0342],
        [0.0289],
    ]
    assert figures_of("microsoft/trocr-base-str", "word_accuracy") == [93.4, 95.2, 98.4, 86.9, 90.6, 90.6]
    assert all("/" in figure.source for model in catalogue().values() for figure in model.figures)


@pytest.mark.parametrize("name", [SMALL, "trocr-small-handwritten"])
def test_a_model_is_meant_by_its_id_and_its_short_id(name: str) -> None:
    assert served_as(name, ["other", SMALL]) == SMALL
    assert served_as(name, ["other", f"{SMALL}@1a2b"]) == f"{SMALL}@1a2b"
    assert served_as(name, ["other"]) is None


def test_a_revision_means_itself_only() -> None:
    assert served_as(f"{SMALL}@1a2b", [SMALL, f"{SMALL}@1a2b"]) == f"{SMALL}@1a2b"
    assert served_as(f"{SMALL}@3c4d", [SMALL]) is None


def test_a_model_of_ones_own_is_meant_by_its_name() -> None:
    assert known_as("./my-hand") == "./my-hand"
    assert served_as("./my-hand", ["./my-hand"]) == "./my-hand"


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("ppocr-v6", False),
        ("trocr-tiny", True),
        (f"{SMALL}@1a2b", True),
        ("./my-hand", True),
        ("owner/not-known", True),
    ],
)
def test_every_model_follows_beams_but_those_that_are_known_not_to(name: str, follows: bool) -> None:
    assert follows_beams(name) is follows


def test_a_revision_costs_what_its_model_costs() -> None:
    large = "microsoft/trocr-large-handwritten"
    prices = [price_list().price(name, Mode.LINE, Priority.NORMAL) for name in (large, f"{large}@1a2b", SMALL)]
    assert prices[0] == prices[1] != prices[2]
