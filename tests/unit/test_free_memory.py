from __future__ import annotations

from pathlib import Path

import pytest

from worker.free_memory import free_bytes

KIB, MIB = 2**10, 2**20


def machine(folder: Path, available: int) -> Path:
    file = folder / "meminfo"
    file.write_text(f"MemTotal:  9 kB\nMemAvailable:  {available // KIB} kB\n", encoding="ascii")
    return file


@pytest.mark.parametrize(
    ("limit", "free"),
    [
        ("max", 500 * MIB),
        (str(900 * MIB), 500 * MIB),  # 900 - 300 + 50 = 650, but the machine has no more than 500
        (str(400 * MIB), 150 * MIB),  # 400 - 300 + 50 of caches
        (str(100 * MIB), 0),
    ],
)
def test_the_tighter_of_machine_and_container_counts(tmp_path: Path, limit: str, free: int) -> None:
    for name, text in (("max", limit), ("current", str(300 * MIB)), ("stat", f"anon 7\ninactive_file {50 * MIB}")):
        (tmp_path / f"memory.{name}").write_text(f"{text}\n", encoding="ascii")
    assert free_bytes(meminfo=machine(tmp_path, 500 * MIB), cgroup=tmp_path) == free


def test_without_a_container_the_machine_counts(tmp_path: Path) -> None:
    assert free_bytes(meminfo=machine(tmp_path, 7 * MIB), cgroup=tmp_path) == 7 * MIB


def test_a_system_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    assert free_bytes(meminfo=tmp_path / "none", cgroup=tmp_path) is None
