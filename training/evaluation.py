"""How well a model in training reads, measured on pixels as they will be served."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import TrOCRProcessor, VisionEncoderDecoderModel

from training.error_rates import ErrorRates, error_rates
from training.labels import Labels
from training.line_images import load_line
from training.samples import LineSample

_BATCH_LINES = 32
#: Tokens that a reading may be longer than its reference before it is cut: a longer one is wrong all the same.
_SPARE_TOKENS = 12


class Evaluator:
    """Reads validation lines greedily."""

    def __init__(
        self, samples: Sequence[LineSample], processor: TrOCRProcessor, labels: Labels, *, max_height_px: int
    ) -> None:
        """Prepare the pixels of the lines once, with the checkpoint's own processor."""
        images = [
            Image.fromarray(np.asarray(load_line(sample, max_height_px=max_height_px))).convert("RGB")
            for sample in samples
        ]
        self._pixels = torch.cat(
            [processor.image_processor(image, return_tensors="pt").pixel_values.to(torch.bfloat16) for image in images]
        )
        self._texts = [sample.text for sample in samples]
        self._labels = labels

    @torch.no_grad()
    def rates(self, model: VisionEncoderDecoderModel) -> ErrorRates:
        """Read all lines and compare with their texts."""
        weight = next(model.parameters())
        was_training = model.training
        model.eval()  # type: ignore[no-untyped-call]
        readings: list[str] = []
        for first in range(0, len(self._texts), _BATCH_LINES):
            texts = self._texts[first : first + _BATCH_LINES]
            pixels = self._pixels[first : first + _BATCH_LINES].to(weight.device, weight.dtype)
            longest = max(len(self._labels.encode(text)) for text in texts) + _SPARE_TOKENS
            limit = min(longest, int(model.generation_config.max_new_tokens))
            generator: Any = model
            ids = generator.generate(pixels, max_new_tokens=limit, num_beams=1, do_sample=False)
            readings += [self._labels.decode(row) for row in ids.tolist()]
        model.train(was_training)
        return error_rates(self._texts, readings)
