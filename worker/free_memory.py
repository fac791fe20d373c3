"""How much memory a process may still take, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
#: Where a container sees its own limit (cgroup v2).
_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(*, meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """The least of what the machine and the container have left, file caches counted as free; None when unknown."""
    free = [found for found in (_of_machine(meminfo), _of_container(cgroup)) if found is not None]
    return min(free, default=None)


def _of_machine(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_container(cgroup: Path) -> int | None:
    limit, used = (" ".join(_lines(cgroup / f"memory.{name}")) for name in ("max", "current"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = next(
        (int(line.split()[1]) for line in _lines(cgroup / "memory.stat") if line.startswith("inactive_file")), 0
    )
    return max(0, int(limit) - int(used) + cached)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
