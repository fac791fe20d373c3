"""The folder that a run leaves behind: what the worker and plain transformers load."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

from training.hybrid_reader import CTC_HEAD_FILE, HybridReader
from training.labels import SENTENCEPIECE_FILE


def export_model(reader: HybridReader, processor: TrOCRProcessor, folder: Path, card: str) -> None:
    """Write weights (float16 safetensors), configuration, processor and card; and the CTC head for fine-tunes to come.

    Nothing but `training` reads the head's file.
    """
    model = reader.model
    folder.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _halve(folder / "model.safetensors")
    if reader.ctc_head is not None:
        head = {name: weight.half() for name, weight in reader.ctc_head.state_dict().items()}
        _save(head, folder / CTC_HEAD_FILE)
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
    # Nothing uses a pooler; where the checkpoint has none, transformers has made one up.
    kept = {name: weight for name, weight in load_file(file).items() if ".pooler." not in name}
    _save({name: weight.half().contiguous() for name, weight in kept.items()}, file)


def _save(weights: dict[str, torch.Tensor], file: Path) -> None:
    save_file(weights, file, metadata={"format": "pt"})
    # safetensors leaves it readable by its owner alone, and the worker is often another user.
    file.chmod(0o644)
