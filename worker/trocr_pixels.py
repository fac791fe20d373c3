"""The picture processing of a checkpoint on the device itself, from the bytes of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from worker.recognizer import LinePixels
from worker.trocr_checkpoint import Checkpoint, bounded
from worker.trocr_resize import FILTERS, Filter, Weights, resized

#: Values that are held at once, 256 MiB in float32; a single picture may have more.
_MOST_VALUES = 2**26


@dataclass(frozen=True, kw_only=True)
class DevicePixels:
    """What ViT's and DeiT's processors do: squash to a size, scale to [0, 1], normalise.

    The values are those of the checkpoint's own processor. Pictures of about the same size are resized in one product.
    """

    size: tuple[int, int]
    filter: Filter
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
        filter_ = FILTERS.get(Image.Resampling(wishes["resample"])) if wishes.get("do_resize") else None
        usual = wishes.get("do_rescale") and wishes["rescale_factor"] == 1 / 255 and wishes.get("do_normalize")
        if filter_ is None or not usual or any(wishes.get(other) for other in others):
            return None
        mean, std = (torch.tensor(wishes[name], device=device)[:, None, None] for name in ("image_mean", "image_std"))
        return cls(
            size=(wishes["size"]["height"], wishes["size"]["width"]),
            filter=filter_,
            mean=mean,
            std=std,
            dtype=checkpoint.model.encoder.dtype,
        )

    def preprocessed(self, lines: Sequence[LinePixels]) -> Tensor:
        """The lines as the encoder takes them, (lines, 3, H, W)."""
        pictures = [bounded(line) for line in lines]
        sides = torch.tensor([picture.shape[:2] for picture in pictures])
        longest = sides.amax(dim=0).tolist()
        down, across = (
            Weights.of(lengths, length, self.filter, longest=most)
            for lengths, length, most in zip(self._on_device(sides).unbind(dim=1), self.size, longest, strict=True)
        )
        levels = self.mean.new_empty((len(pictures), 3, *self.size))
        for group in self._groups(pictures):
            places = self._on_device(torch.tensor(group))
            padded = self._padded([pictures[index] for index in group])
            levels[places] = self._squashed(padded, down[places], across[places])
        return ((levels / 255.0 - self.mean) / self.std).to(self.dtype)

    def _groups(self, pictures: Sequence[LinePixels]) -> list[list[int]]:
        """Which pictures to resize together: those of about the same size, each padded to the largest sides of them."""
        groups: list[list[int]] = []
        rows = columns = 0
        for index in sorted(range(len(pictures)), key=lambda index: pictures[index].size):
            height, width, _ = pictures[index].shape
            rows, columns = max(rows, height), max(columns, width)
            if groups and (len(groups[-1]) + 1) * self._values(rows, columns) <= _MOST_VALUES:
                groups[-1].append(index)
            else:
                groups.append([index])
                rows, columns = height, width
        return groups

    def _values(self, rows: int, columns: int) -> int:
        """How many values of 4 bytes a picture takes while it is resized, about."""
        down, across = self.size
        return 3 * rows * columns + 4 * (across * columns + down * rows) + 12 * across * max(rows, down)

    def _padded(self, pictures: Sequence[LinePixels]) -> Tensor:
        """Pictures on the device, (pictures, H, W, 3) uint8; anything lies beyond their sides."""
        rows, columns = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
        padded = torch.empty((len(pictures), rows, columns, 3), dtype=torch.uint8)
        for place, picture in zip(padded.numpy(), pictures, strict=True):
            place[: picture.shape[0], : picture.shape[1]] = picture
        return self._on_device(padded)

    def _squashed(self, pictures: Tensor, down: Weights, across: Weights) -> Tensor:
        """Levels of padded pictures, (pictures, 3, H, W) float32; across and then down, as Pillow does it."""
        count, rows, columns, _ = pictures.shape
        height, width = self.size
        levels = pictures.float().transpose(1, 2).reshape(count, columns, rows * 3)
        levels = resized(levels, across).view(count, width, rows, 3)
        levels = resized(levels.transpose(1, 2).reshape(count, rows, width * 3), down)
        return levels.view(count, height, width, 3).permute(0, 3, 1, 2)

    def _on_device(self, values: Tensor) -> Tensor:
        """From page-locked memory the copy runs beside the work before it."""
        pinned = values.pin_memory() if self.mean.is_cuda else values
        return pinned.to(self.mean.device, non_blocking=True)
