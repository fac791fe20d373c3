"""Several processes that learn as one: on a CPU, one thread each is faster than one process with many threads."""

import socket
from collections.abc import Callable

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn


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
    spawn(_joined, args=(work, count, port), nprocs=count)  # type: ignore[no-untyped-call]


def _joined(rank: int, work: Callable[[int], None], count: int, port: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    try:
        work(rank)
    finally:
        torch.distributed.destroy_process_group()


def process_count() -> int:
    """How many processes learn together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def mean(values: torch.Tensor) -> torch.Tensor:
    """Average a float32 tensor over the processes; as it is when there is one."""
    if process_count() > 1:
        torch.distributed.all_reduce(values)
        values /= process_count()
    return values
