"""Pillow's resizing as products of matrices, so that pictures of many sizes are resized together.

Each level of a resized row is a sum of levels, weighted by how far away they are. The weights are Pillow's, and like
these whole numbers (`precompute_coeffs` and `normalize_coeffs_8bpc` of its `Resample.c`). Their upper and lower halves
are multiplied apart, for then all sums are whole numbers that float32 holds exactly, and so the results are Pillow's.
Only where a side shrinks to less than a sixteenth, a sum may be off by some millionths of a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

#: Pillow's weights are multiples of one over so many; the upper halves are multiples of so many of these.
_UNITS = 2.0**22
_UPPER_UNITS = 2.0**11


@dataclass(frozen=True, kw_only=True)
class Filter:
    """How much a level counts."""

    #: By its distance, of which only the size matters, in levels of the smaller picture.
    weight: Callable[[Tensor], Tensor]
    #: Beyond it nothing counts.
    support: float


def _bilinear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _bicubic(distance: Tensor) -> Tensor:
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((x - 5) * x + 8) * x * -0.5 + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


FILTERS = {
    Image.Resampling.BILINEAR: Filter(weight=_bilinear, support=1.0),
    Image.Resampling.BICUBIC: Filter(weight=_bicubic, support=2.0),
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much of each level goes into each one of a resized row, for many rows."""

    #: The levels that count, (rows, length, counted) int64.
    places: Tensor
    #: How many units of each of them do, float32.
    units: Tensor

    @classmethod
    def of(cls, lengths: Tensor, length: int, filter_: Filter, *, longest: int) -> Weights:
        """For rows of several lengths.

        Args:
            lengths: Of each row, (rows,) int64.
            length: To which they are resized.
            filter_: With which.
            longest: The greatest of `lengths`.
        """
        sizes = lengths.double()[:, None, None]
        scale = sizes / length
        stretch = scale.clamp(min=1)
        support = filter_.support * stretch
        middles = (torch.arange(length, device=lengths.device).double()[:, None] + 0.5) * scale
        firsts = (middles - support + 0.5).floor().clamp(min=0)
        ends = (middles + support + 0.5).floor().minimum(sizes)
        counted = 2 * int(filter_.support * max(1.0, longest / length) + 1) + 1
        places = firsts + torch.arange(counted, device=lengths.device)
        shares = filter_.weight((places - middles + 0.5) * (1 / stretch)) * (places < ends)
        units = shares * (_UNITS / shares.sum(dim=-1, keepdim=True))
        return cls(places=places.long(), units=((units.abs() + 0.5).floor() * units.sign()).float())

    def __getitem__(self, rows: Tensor) -> Weights:
        return Weights(places=self.places[rows], units=self.units[rows])


def resized(levels: Tensor, weights: Weights) -> Tensor:
    """Resize many arrays along one side, each from a length of its own.

    Args:
        levels: (rows, longest, values) float32, whole levels of 0 to 255; what lies beyond a row's length is not
            looked at, but must be finite.
        weights: Of the same rows.

    Returns:
        (rows, length, values) float32, whole levels.
    """
    rows, length, _ = weights.places.shape
    longest = levels.shape[1]
    spread = levels.new_zeros((rows, length, longest))
    spread.scatter_add_(2, weights.places.clamp(max=longest - 1), weights.units)
    upper = (spread / _UPPER_UNITS).round()
    products = torch.cat([upper, spread - upper * _UPPER_UNITS], dim=1) @ levels
    upper_sums, lower_sums = products.double().chunk(2, dim=1)
    sums = upper_sums.mul_(_UPPER_UNITS).add_(lower_sums)
    return sums.div_(_UNITS).add_(0.5).floor_().clamp_(0, 255).float()
