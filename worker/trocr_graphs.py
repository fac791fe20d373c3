"""Work over buffers that stay where they are, recorded once as CUDA graphs and replayed without Python in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Generic, TypeVar

import torch

_Result = TypeVar("_Result")
#: Runs before a recording, in which libraries choose their kernels and take their workspaces.
_WARM_UP_RUNS = 2


class FixedShapes(Generic[_Result]):
    """A function of a few sizes. On CUDA, sizes are rounded up to given ones, and each combination of these is a graph.

    Elsewhere the function is called with the sizes as they are. To be made and called in `torch.inference_mode`, by one
    thread at a time.

    Args:
        function: Takes sizes; reads and writes nothing but buffers that stay where they are. On CUDA it runs with every
            combination while this is made, and its results are overwritten by the next call.
        sizes: For each of its arguments, the sizes to round up to, rising.
        device: Where it computes.
    """

    def __init__(
        self, function: Callable[..., _Result], *, sizes: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        self._function = function
        self._sizes = sizes
        self._graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, _Result]] = {}
        if device.type == "cuda":
            # the largest first, so that the others fit into its memory
            for combination in product(*(reversed(each) for each in sizes)):
                self._graphs[combination] = self._recorded(combination, device)

    def __call__(self, *wanted: int) -> _Result:
        """Compute; where sizes were rounded up, so are those of the result."""
        if not self._graphs:
            return self._function(*wanted)
        rounded = (next(size for size in each if size >= want) for each, want in zip(self._sizes, wanted, strict=True))
        graph, result = self._graphs[tuple(rounded)]
        graph.replay()
        return result

    def _recorded(self, sizes: tuple[int, ...], device: torch.device) -> tuple[torch.cuda.CUDAGraph, _Result]:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # it has no annotations
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                self._function(*sizes)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((recorded.pool() for recorded, _ in self._graphs.values()), None)
        # Another model's thread may use the device while this one records.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = self._function(*sizes)
        return graph, result


def powers_of_two(least: int, most: int) -> list[int]:
    """`least` doubled again and again up to `most`, which is the last one."""
    sizes = []
    while least < most:
        sizes.append(least)
        least *= 2
    return [*sizes, most]
