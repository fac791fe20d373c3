"""The benchmark of fine-tuning learns from the lines of one form and reads others of it."""

import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.fine_tuning import main
from tests.trocr_models import BUNDLED


def test_the_largest_form_is_learnt_from_and_read(tmp_path: Path) -> None:
    rows = []
    for index, form in enumerate(["small_1", *["large_1"] * 4, *["large_2"] * 2]):
        image = Image.new("L", (200, 40), 255)
        ImageDraw.Draw(image).text((8, 4), f"abc {index}", fill=0, font=ImageFont.load_default(24))
        image.save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png\t{form}\tdrawn\tabc {index}\n")
    (tmp_path / "lines.tsv").write_text("".join(rows), encoding="utf-8")
    figures = tmp_path / "figures.json"
    main(data=tmp_path / "lines.tsv", model=str(BUNDLED), hands=1, minutes=0.05, processes=1, json_file=figures)
    (hand,) = json.loads(figures.read_text())
    assert hand["form"].endswith("/large")
    assert (hand["learnt_lines"], hand["read_lines"]) == (4, 2)
    assert hand["before"]["lines"] == hand["after"]["lines"] == 2
