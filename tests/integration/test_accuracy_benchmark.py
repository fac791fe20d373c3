"""The accuracy benchmark on the lines of `tests/data`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import accuracy
from core.settings import settings
from tests.real_lines import real_lines, transcriptions


def lines_folder(folder: Path) -> Path:
    """The lines in the form in which the benchmark takes them."""
    (folder / "source" / "test").mkdir(parents=True)
    rows = []
    for name, pixels in real_lines().items():
        file = Path(name).with_suffix(".png").name
        Image.fromarray(pixels).save(folder / "source" / "test" / file)
        rows.append("\t".join((file, "page", "default", transcriptions()[name])))
    (folder / "source" / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


# Of so few lines a single character that reads otherwise in bfloat16 is 0.002. OpenVINO rounds otherwise than PyTorch:
# with it one of the ten goes on with other words, and seven characters more are wrong.
@pytest.mark.parametrize(
    ("dtype", "openvino", "bound"), [("float32", False, 0.0), ("bfloat16", False, 0.005), ("bfloat16", True, 0.02)]
)
def test_what_the_number_format_changes_is_printed_and_written(
    dtype: str,
    openvino: bool,
    bound: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "worker.trocr_checkpoint.openvino_computes",
        lambda _, number_format: openvino and number_format == torch.bfloat16,
    )
    monkeypatch.setattr(accuracy, "settings", lambda: settings().model_copy(update={"dtype": dtype}))
    monkeypatch.setattr("shutil.which", lambda _: None)  # tesseract, where it is installed, is slow to start
    figures = tmp_path / "figures.json"
    accuracy.main(data=lines_folder(tmp_path), model=None, json_file=figures)
    by_recognizer = json.loads(figures.read_text(encoding="utf-8"))["recognizers"]
    exactness = by_recognizer["trocr-tiny"]["exactness"]
    assert exactness["dtype"] == dtype
    assert exactness["cer"] == pytest.approx(exactness["cer_float32"], abs=bound)
    assert 0 < exactness["cer"] < 0.5
    assert exactness["same_alone"] == 1
    assert "exactness" not in by_recognizer["ppocr-v6"]
    printed = capsys.readouterr().out
    assert "CER in float32" in printed
    if dtype == "float32":
        assert (exactness["better"], exactness["worse"], exactness["difference_deviation"]) == (0, 0, 0)
    assert f"{exactness['dtype']} on {exactness['device']}" in printed
