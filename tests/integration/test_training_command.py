"""The whole command on a handful of lines: from scratch, resumed, and from a checkpoint of another shape."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import (
    DeiTConfig,
    DeiTImageProcessor,
    DeiTModel,
    TrOCRConfig,
    TrOCRForCausalLM,
    TrOCRProcessor,
    VisionEncoderDecoderModel,
)
from typer.testing import CliRunner

from tests.trocr_models import BUNDLED
from tests.waiting import wait_until
from training.__main__ import app
from training.cut_lines import CutLine
from training.labels import character_tokenizer
from training.line_pool import LinePool
from training.line_store import open_store
from training.samples import Hand
from training.texts import TextSource

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _subnormals_as_before() -> Iterator[None]:
    """Training flushes them to zero in its process, which is this one; other tests want them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn lines on six pages, as a table."""
    folder = tmp_path_factory.mktemp("lines")
    rng, rows = random.Random(1), []
    for index in range(12):
        text = "".join(rng.choices("abcdef", k=4))
        image = Image.new("L", (120, 40), 255)
        ImageDraw.Draw(image).text((8, 4), text, fill=0, font=ImageFont.load_default(24))
        image.save(folder / f"{index}.png")
        rows.append(f"{index}.png\tpage{index // 2}\tdrawn\t{text}\n")
    (folder / "lines.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


def _train(out: Path, lines: Path, *options: str) -> str:
    short = ["--minutes", "0.02", "--batch-tokens", "300", "--evaluate-minutes", "0.01", "--device", "cpu"]
    result = CliRunner().invoke(app, [str(out), "--data", str(lines), *short, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def _read(folder: Path, lines: Path) -> list[int]:
    processor: Any = TrOCRProcessor.from_pretrained(folder)
    model: Any = VisionEncoderDecoderModel.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    image = Image.open(lines / "0.png").convert("RGB")
    pixels = processor(images=image, return_tensors="pt").pixel_values
    ids: list[int] = model.generate(pixels, max_new_tokens=5)[0].tolist()
    assert isinstance(processor.batch_decode([ids], skip_special_tokens=True)[0], str)
    return ids


def test_a_new_model_is_trained_resumed_and_loaded(tmp_path: Path, lines: Path) -> None:
    out = tmp_path / "model"
    _train(out, lines)
    first = torch.load(tmp_path / "model.state" / "state.pt", weights_only=True)["state"]
    _train(out, lines, "--resume", "--minutes", str(first["minutes"] + 0.02))
    second = torch.load(tmp_path / "model.state" / "state.pt", weights_only=True)["state"]
    assert second["steps"] > first["steps"] > 0
    assert len(_read(out, lines)) >= 2
    assert "SHA-256 over the training lines" in (out / "README.md").read_text(encoding="utf-8")


def test_a_run_ends_when_it_has_learnt_from_each_line_so_often(tmp_path: Path, lines: Path) -> None:
    output = _train(tmp_path / "model", lines, "--minutes", "60", "--evaluate-minutes", "60", "--most-views", "9")
    state = torch.load(tmp_path / "model.state" / "state.pt", weights_only=True)["state"]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    corpus = re.search(r"\| (\d+) \| \d+ \|", card)
    assert corpus
    assert 0 <= state["lines"] - 9 * int(corpus[1]) < 12
    assert output.count("CER") > 5


def test_a_model_of_this_command_learns_on_from_the_words_of_its_lines(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "words"
    words.mkdir()
    for index in range(8):
        image = Image.new("L", (300, 40), 255)
        ImageDraw.Draw(image).text((8, 4), "abc   def", fill=0, font=ImageFont.load_default(24))
        image.save(words / f"{index}.png")
        (words / f"{index}.gt.txt").write_text("abc def", encoding="utf-8")
    out = tmp_path / "tuned"
    cut: list[CutLine] = []
    written: list[TextSource] = []
    dropped: list[float] = []

    def mix(_: LinePool, lines: Sequence[CutLine], texts: TextSource) -> None:
        cut.extend(lines)
        written.append(texts)

    monkeypatch.setattr("training.run.set_dropout", lambda _, share: dropped.append(share))
    monkeypatch.setattr("training.line_pool.LinePool.mix", mix)
    texts = tmp_path / "texts.txt"
    texts.write_text("bad bed\n", encoding="utf-8")
    _train(out, words, "--model", str(BUNDLED), "--mixed-share", "1", "--dropout", "0.1", "--texts", str(texts))
    assert {tuple(word.text for word in line.words) for line in cut} == {("abc", "def")}
    assert {line.hand for line in cut} == {Hand(source="words", kind="", form="words/words")}
    assert [set(texts.running_text) for texts in written] == [{"abc def", "bad bed"}]
    assert dropped == [0.1]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| mixed_share | 1.0 |" in card
    assert "| dropout | 0.1 |" in card
    _train(tmp_path / "new", lines)
    assert "| mixed_share | 0.0 |" in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--model", "./nowhere"], "is no folder"),
        (["--model", "."], "no config.json"),
        (["--fonts", "./nowhere"], "does not exist"),
        (["--fonts", "."], "no font was found"),
        (["--words", "lines.tsv"], "need --fonts"),
        (["--data", "empty"], "no TSV"),
        (["--data", "one"], "one line is not enough"),
    ],
)
def test_what_cannot_be_used_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, lines in (("empty", 0), ("one", 1), (".", 2)):
        Path(folder).mkdir(exist_ok=True)
        for index in range(lines):
            Image.new("L", (120, 40), 255).save(Path(folder, f"{index}.png"))
        rows = "".join(f"{index}.png\tabc\n" for index in range(lines))
        Path(folder, "lines.tsv").write_text(rows, encoding="utf-8")
    data = [] if "--data" in options else ["--data", "lines.tsv"]
    result = CliRunner().invoke(app, ["model", *data, *options])
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def test_synthetic_lines_say_what_the_given_texts_say(tmp_path: Path, lines: Path) -> None:
    (tmp_path / "texts.txt").write_text("zzz zzz zzz zzz zzz zzz zzz zzz\n", encoding="utf-8")
    font = ImageFont.load_default(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    (tmp_path / "hand.ttf").write_bytes(font.font_bytes)
    texts = ["--texts", str(tmp_path / "texts.txt"), "--fonts", str(tmp_path), "--synthetic-lines", "60"]
    _train(tmp_path / "model", lines, *texts)
    (drawn,) = (tmp_path / "model.state" / "synthetic").iterdir()
    assert sum("zz" in text.lower() for text in open_store(drawn).texts) > 3


def test_all_processes_end_with_the_command(tmp_path: Path, lines: Path) -> None:
    arguments = [str(tmp_path / "model"), "--data", str(lines), "--minutes", "5", "--processes", "2", "--device", "cpu"]
    command = subprocess.Popen([sys.executable, "-m", "training", *arguments])
    try:
        children = psutil.Process(command.pid).children
        wait_until(lambda: len(children()) == 3, timeout_s=60)  # two that learn, one that keeps count
        learning = children()
    finally:
        command.terminate()
    assert command.wait(timeout=30) == 143
    _, left = psutil.wait_procs(learning, timeout=30)
    assert not left


def test_a_checkpoint_of_another_shape_is_fine_tuned(tmp_path: Path, lines: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "tuned"
    tokenizer = character_tokenizer()
    encoder = DeiTConfig(
        image_size=32, patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    decoder = TrOCRConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        cross_attention_hidden_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    VisionEncoderDecoderModel(
        encoder=DeiTModel(encoder, add_pooling_layer=False), decoder=TrOCRForCausalLM(decoder)
    ).save_pretrained(base)
    images = DeiTImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    make: Any = TrOCRProcessor
    make(image_processor=images, tokenizer=tokenizer).save_pretrained(base)
    _train(out, lines, "--model", str(base))
    assert _read(out, lines)[0] == 2
    assert f"fine-tuned from `{base}`" in (out / "README.md").read_text(encoding="utf-8").replace("\n", " ")
