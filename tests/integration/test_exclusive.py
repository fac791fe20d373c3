from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.exclusive import Work, alone
from tests.domain import rows
from tests.waiting import wait_until

_HOLDER = """
import sys, threading
from core.exclusive import Work, alone
with alone(Work.BATCHES, threading.Event()) as check:
    print("held", flush=True)
    sys.stdin.readline()
    check()
"""
_LAST_SIGN = """
    SELECT state_change FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    """A process that does the work until a line is sent to it, and then checks whether it still may."""
    environment = os.environ | {"PYTHONPATH": ".", "INKQUEUE_LEASE_S": "3"}
    command = [sys.executable, "-c", _HOLDER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def ended_after_its_check(process: subprocess.Popen[str]) -> int:
    process.communicate("\n", timeout=20)
    return process.returncode


def test_who_is_frozen_loses_the_work_to_the_next_and_learns_of_it() -> None:
    too_late = threading.Event()
    timer = threading.Timer(20, too_late.set)
    with holder() as process:
        process.send_signal(signal.SIGSTOP)
        timer.start()
        try:
            with alone(Work.BATCHES, too_late) as check:
                assert not too_late.is_set()
                check()
                process.send_signal(signal.SIGCONT)
                assert ended_after_its_check(process) != 0
        finally:
            timer.cancel()


def test_who_works_long_without_a_check_keeps_the_work() -> None:
    with holder() as process:
        first = rows(_LAST_SIGN)
        assert len(first) == 1
        wait_until(lambda: rows(_LAST_SIGN) > first)
        assert ended_after_its_check(process) == 0
