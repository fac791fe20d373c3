"""Where a run starts: a new model, or a checkpoint of the TrOCR family."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

from training.batches import TokenFrame
from training.hybrid_reader import attend_plainly, column_px
from training.new_model import ModelShape, new_model, new_processor, set_generation

_CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")
#: TrOCR's learned positions begin at 2.
_POSITION_OFFSET = 2
#: The most tokens of a line, where the decoder could hold more.
_MOST_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """A model with what belongs to it, float32 on the CPU."""

    model: VisionEncoderDecoderModel
    processor: TrOCRProcessor
    frame: TokenFrame
    #: Where the tokenizer's files lie; an empty path for a new model.
    folder: Path


def starting_point(checkpoint: str | None) -> StartingPoint:
    """Load a checkpoint (a folder, or a hub id from the hub or its cache), or make a new model."""
    if checkpoint is None:
        shape = ModelShape()
        processor = new_processor(shape)
        model, folder = new_model(shape, vocabulary=len(processor.tokenizer)), Path()
    else:
        folder = Path(checkpoint)
        if not folder.is_dir():
            folder = Path(snapshot_download(checkpoint, allow_patterns=list(_CHECKPOINT_FILES)))
        processor = TrOCRProcessor.from_pretrained(folder)
        model = VisionEncoderDecoderModel.from_pretrained(folder, dtype=torch.float32)
    frame = _frame(model, processor)
    set_generation(model, start=frame.start, pad=frame.pad, eos=frame.end, max_new_tokens=frame.most - 1)
    if column_px(model):
        attend_plainly(model)
    return StartingPoint(model=model, processor=processor, frame=frame, folder=folder)


def _frame(model: VisionEncoderDecoderModel, processor: TrOCRProcessor) -> TokenFrame:
    """Read the special tokens: the generation config first, then the model's, then the tokenizer's."""
    configs = (model.generation_config, model.config, model.config.decoder)

    def first(name: str, fallback: int | None) -> int:
        values = [getattr(config, name, None) for config in configs] + [fallback]
        return int(next(value for value in values if value is not None))

    tokenizer = processor.tokenizer
    decoder: Any = model.config.decoder
    positions = int(decoder.max_position_embeddings)
    return TokenFrame(
        start=first("decoder_start_token_id", tokenizer.bos_token_id),
        end=first("eos_token_id", tokenizer.eos_token_id),
        pad=first("pad_token_id", tokenizer.pad_token_id),
        most=min(positions - _POSITION_OFFSET, _MOST_TOKENS),
    )
