"""Several processes that learn as one: on a CPU, one thread each is faster than one process with many threads."""

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn

Value = TypeVar("Value")


def run_processes(work: Callable[[int], None], count: int) -> None:
    """Run `work(rank)` in `count` processes that `mean` connects, or here when one is enough.

    `work` must be picklable. Rank 0 is the one that evaluates, writes and shows progress.
    """
    if count == 1:
        work(0)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A SIGTERM would end this process alone, and the others would learn on for nobody. As daemons they end with it
    # as soon as it exits.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    spawn(_joined, args=(work, count, port), nprocs=count, daemon=True)  # type: ignore[no-untyped-call]


def _joined(rank: int, work: Callable[[int], None], count: int, port: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    try:
        work(rank)
    finally:
        torch.distributed.destroy_process_group()


def share_of_rank(values: Sequence[Value], rank: int, count: int) -> Sequence[Value]:
    """Give the part of some work that is one process's, values that follow each other."""
    return values[len(values) * rank // count : len(values) * (rank + 1) // count]


def process_count() -> int:
    """How many processes learn together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def mean(values: torch.Tensor) -> torch.Tensor:
    """Average a float32 tensor over the processes; as it is when there is one."""
    if process_count() > 1:
        torch.distributed.all_reduce(values)
        values /= process_count()
    return values
