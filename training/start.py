"""Where a run starts: a new model, or a checkpoint of the TrOCR family."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

from core.hub import CheckpointUnavailable, fetched_checkpoint
from training.batches import TokenFrame
from training.hybrid_reader import attend_plainly, column_px
from training.new_model import ModelShape, new_model, new_processor, set_generation
from training.unusable_input import UnusableInput

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


def checkpoint_folder(checkpoint: str) -> Path:
    """Find a checkpoint's folder: the path itself, or the hub's cache, into which a hub id is fetched once.

    Raises:
        UnusableInput: It is no folder of a model, and the hub and its cache have none of that id.
    """
    try:
        folder = Path(checkpoint) if checkpoint and Path(checkpoint).is_dir() else fetched_checkpoint(checkpoint)
    except CheckpointUnavailable as error:
        raise UnusableInput(str(error)) from error
    if not (folder / "config.json").is_file():
        raise UnusableInput(f"{checkpoint} holds no config.json, so that it is no model")
    return folder


def starting_point(checkpoint: Path | None) -> StartingPoint:
    """Load a checkpoint's folder, or make a new model."""
    if checkpoint is None:
        shape = ModelShape()
        processor = new_processor(shape)
        model = new_model(shape, vocabulary=len(processor.tokenizer))
    else:
        processor = TrOCRProcessor.from_pretrained(checkpoint)
        model = VisionEncoderDecoderModel.from_pretrained(checkpoint, dtype=torch.float32)
    frame = _frame(model, processor)
    set_generation(model, start=frame.start, pad=frame.pad, eos=frame.end, max_new_tokens=frame.most - 1)
    if column_px(model):
        attend_plainly(model)
    return StartingPoint(model=model, processor=processor, frame=frame, folder=checkpoint or Path())


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
