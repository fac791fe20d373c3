"""A reader of a few thousand weights, random but always the same, for tests of how models learn."""

import torch

from training.hybrid_reader import HybridReader
from training.line_pixels import LineFormat
from training.new_model import ModelShape, new_model, new_processor

SHAPE = ModelShape(
    height_px=16, width_px=96, column_px=4, width=32, encoder_layers=2, decoder_layers=1, heads=2, max_tokens=12
)


def small_reader(*, ctc_weight: float = 0.5) -> HybridReader:
    torch.manual_seed(1)
    processor = new_processor(SHAPE)
    model = new_model(SHAPE, vocabulary=len(processor.tokenizer))
    return HybridReader(model, LineFormat.of(processor), ctc_weight=ctc_weight)
