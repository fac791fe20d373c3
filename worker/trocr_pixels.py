"""The picture processing of a checkpoint on the device itself, from the bytes of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from worker.recognizer import LinePixels
from worker.trocr_checkpoint import Checkpoint, bounded

_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


@dataclass(frozen=True, kw_only=True)
class DevicePixels:
    """What ViT's and DeiT's processors do: squash to a size, scale to [0, 1], normalise.

    Values differ from those of the checkpoint's own processor, which uses Pillow, by a level or two of 255 here and
    there: Pillow computes in fixed point.
    """

    size: tuple[int, int]
    mode: str
    #: (3, 1, 1), of values in [0, 1].
    mean: Tensor
    std: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> DevicePixels | None:
        """For a checkpoint; None when its processor does anything else, such as keeping the aspect ratio."""
        processor, device = checkpoint.image_processor, checkpoint.model.device
        wishes = processor.to_dict()
        others = ("do_center_crop", "do_thumbnail", "do_pad", "do_align_long_axis")
        mode = _MODES.get(Image.Resampling(wishes["resample"])) if wishes.get("do_resize") else None
        usual = all(wishes.get(wish) for wish in ("do_rescale", "do_normalize"))
        if mode is None or not usual or any(wishes.get(other) for other in others):
            return None
        mean, std = (torch.tensor(wishes[name], device=device)[:, None, None] for name in ("image_mean", "image_std"))
        return cls(
            size=(wishes["size"]["height"], wishes["size"]["width"]),
            mode=mode,
            mean=mean,
            std=std,
            dtype=checkpoint.model.encoder.dtype,
        )

    def preprocessed(self, lines: Sequence[LinePixels]) -> Tensor:
        """The lines as the encoder takes them, (lines, 3, H, W)."""
        levels = torch.cat([self._squashed(bounded(line)) for line in lines])
        return ((levels / 255.0 - self.mean) / self.std).to(self.dtype)

    def _squashed(self, line: LinePixels) -> Tensor:
        pixels = torch.tensor(line)
        if self.mean.device.type == "cuda":
            # from page-locked memory the copy runs beside the work before it
            pixels = pixels.pin_memory().to(self.mean.device, non_blocking=True)
        values = pixels.permute(2, 0, 1)[None].float()
        # Across and then down, whole levels after each, as Pillow does it.
        for size in ((len(line), self.size[1]), self.size):
            values = interpolate(values, size=size, mode=self.mode, antialias=True, align_corners=False)
            values = values.round().clamp(0, 255)
        return values
