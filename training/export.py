"""The folder that a run leaves behind: what the worker and plain transformers load."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

from training.labels import SENTENCEPIECE_FILE


def export_model(model: VisionEncoderDecoderModel, processor: TrOCRProcessor, folder: Path, card: str) -> None:
    """Write weights (float16 safetensors), configuration, processor and card."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _halve(folder / "model.safetensors")
    (folder / "README.md").write_text(card, encoding="utf-8")


def keep_sentencepiece(base: Path, folder: Path) -> None:
    """Copy the base's sentencepiece model, so that the result can be fine-tuned in its turn."""
    model = base / SENTENCEPIECE_FILE
    if model.is_file():
        shutil.copyfile(model, folder / SENTENCEPIECE_FILE)


@torch.no_grad()
def equalize_channels(model: VisionEncoderDecoderModel) -> None:
    """Spread the weights of the patches evenly over the colour channels.

    A new model learns from grey lines alone; after this it reads a coloured line as its mean grey, and for grey lines
    nothing changes.
    """
    encoder: Any = model.encoder
    projection = encoder.embeddings.patch_embeddings.projection
    projection.weight.copy_(projection.weight.mean(1, keepdim=True).expand_as(projection.weight))


def _halve(file: Path) -> None:
    weights = load_file(file)
    save_file({name: weight.half().contiguous() for name, weight in weights.items()}, file, metadata={"format": "pt"})
    file.chmod(0o644)
