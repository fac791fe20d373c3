from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.child import Program
from cli.errors import CannotStart
from cli.log_lines import LogLines
from cli.restart_policy import RestartPolicy
from cli.supervisor import StopRequested, Supervisor

#: Waits of milliseconds, so that five deaths are soon over.
QUICK = RestartPolicy(first_wait_s=0.01)

#: Says its pid and that of a grandchild which ignores every polite request, and waits.
STUBBORN_FAMILY = """
import os, signal, subprocess, sys
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
grandchild = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True)
grandchild.stdout.readline()
print("family", os.getpid(), grandchild.pid, flush=True)
signal.pause()
"""

DEAF = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", os.getpid(), flush=True)
while True:
    signal.pause()
"""

POLITE = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("goodbye", flush=True)))
print("polite", os.getpid(), flush=True)
signal.pause()
"""


def program(source: str, name: str = "child", *, grace_s: float = 10.0) -> Program:
    return Program(name=name, command=lambda: [sys.executable, "-c", source], grace_s=grace_s)


class Log(LogLines):
    """The log as text, and the pids that the children said in it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def pids(self, word: str) -> list[int]:
        lines = re.findall(rf"\| {word} ([\d ]+)", self.text)
        return [int(pid) for line in lines for pid in line.split()]


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@contextmanager
def stopping(supervisor: Supervisor) -> Iterator[None]:
    with pytest.raises(StopRequested), supervisor:
        yield


@contextmanager
def handling_hangups(handler: signal.Handlers) -> Iterator[None]:
    """Treat SIGHUP so, whatever the suite was started with: nohup ignores it."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_dead_child_is_started_again_and_the_log_says_so() -> None:
    log = Log()
    with Supervisor(log, policy=QUICK) as supervisor:
        supervisor.start(program(POLITE, "worker"))
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 1, within_s=20)
        os.kill(log.pids("polite")[0], signal.SIGKILL)
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 2, within_s=20)
    assert "inkqueue | worker was ended by SIGKILL; it starts again in 0 s" in log.text


def test_what_a_dead_child_leaves_is_ended_before_it_is_started_again() -> None:
    log = Log()
    with Supervisor(log, policy=QUICK) as supervisor:
        supervisor.start(program(STUBBORN_FAMILY))
        assert supervisor.wait_until(lambda: len(log.pids("family")) == 2, within_s=20)
        child, grandchild = log.pids("family")
        os.kill(child, signal.SIGKILL)
        assert supervisor.wait_until(lambda: len(log.pids("family")) == 4, within_s=20)
        assert alive([child, grandchild]) == []


def test_a_child_that_dies_too_often_ends_everything_with_its_last_lines() -> None:
    log = Log()
    with pytest.raises(CannotStart) as caught, Supervisor(log, policy=QUICK) as supervisor:
        supervisor.start(program(POLITE, "api"))
        supervisor.start(program("raise SystemExit('the model is missing')", "worker"))
        supervisor.run()
    assert caught.value.message.startswith(
        "worker ended with status 1, for the 5th time within 60 s, so everything ends"
    )
    assert caught.value.message.endswith("    the model is missing")
    assert alive(log.pids("polite")) == []


def test_children_end_one_after_another_the_last_started_first() -> None:
    log = Log()
    with Supervisor(log) as supervisor:
        for name in ("postgres", "worker", "api"):
            supervisor.start(program(POLITE, name))
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 3, within_s=20)
    assert re.findall(r"(\w+) +\| goodbye", log.text) == ["api", "worker", "postgres"]


def test_nothing_is_left_not_even_a_deaf_grandchild_in_a_session_of_its_own() -> None:
    log = Log()
    with Supervisor(log) as supervisor:
        supervisor.start(program(STUBBORN_FAMILY))
        assert supervisor.wait_until(lambda: len(log.pids("family")) == 2, within_s=20)
    assert alive(log.pids("family")) == []


def test_a_deaf_child_is_killed_when_its_time_is_over() -> None:
    log = Log()
    with Supervisor(log) as supervisor:
        supervisor.start(program(DEAF, grace_s=0.2))
        assert supervisor.wait_until(lambda: len(log.pids("deaf")) == 1, within_s=20)
    assert "child does not end, so it is killed" in log.text
    assert alive(log.pids("deaf")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run(number: signal.Signals) -> None:
    log = Log()
    with handling_hangups(signal.SIG_DFL), stopping(supervisor := Supervisor(log)):
        supervisor.start(program(POLITE))
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 1, within_s=20)
        signal.raise_signal(number)
        supervisor.run()
    assert "goodbye" in log.text


def test_a_hangup_ends_nothing_under_nohup() -> None:
    log = Log()
    with handling_hangups(signal.SIG_IGN), Supervisor(log) as supervisor:
        supervisor.start(program(POLITE))
        signal.raise_signal(signal.SIGHUP)
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 1, within_s=20)


def test_a_second_signal_hurries() -> None:
    log = Log()
    began = time.monotonic()
    with stopping(supervisor := Supervisor(log)):
        supervisor.start(program(DEAF, grace_s=60))
        assert supervisor.wait_until(lambda: len(log.pids("deaf")) == 1, within_s=20)
        signal.raise_signal(signal.SIGINT)
        try:
            supervisor.run()
        finally:
            signal.raise_signal(signal.SIGINT)
    assert time.monotonic() - began < 30
    assert alive(log.pids("deaf")) == []


def test_signals_work_as_before_after_the_run() -> None:
    # A suite that was started in the background ignores this signal from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Supervisor(Log()):
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_whose_program_is_missing_is_named() -> None:
    with pytest.raises(CannotStart) as caught, Supervisor(Log(), policy=QUICK) as supervisor:
        supervisor.start(Program(name="valkey", command=lambda: ["/nowhere"]))
        supervisor.run()
    assert caught.value.message.startswith("valkey ended with status 127")
    assert caught.value.message.endswith("/nowhere: No such file or directory")


def test_what_cannot_be_prepared_is_tried_again() -> None:
    log = Log()
    attempts = iter([None, CannotStart("the earlier one has not ended yet"), None])

    def prepare() -> None:
        if (refusal := next(attempts)) is not None:
            raise refusal

    with Supervisor(log, policy=QUICK) as supervisor:
        supervisor.start(Program(name="postgres", command=lambda: [sys.executable, "-c", POLITE], prepare=prepare))
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 1, within_s=20)
        os.kill(log.pids("polite")[0], signal.SIGKILL)
        assert supervisor.wait_until(lambda: len(log.pids("polite")) == 2, within_s=20)
    assert "postgres does not start: the earlier one has not ended yet; it starts again" in log.text


def test_quiet_lines_are_shown_only_when_the_child_is_given_up() -> None:
    log = Log()
    source = "print('LOG: hello'); raise SystemExit(3)"
    with pytest.raises(CannotStart, match="LOG: hello"), Supervisor(log, policy=QUICK) as supervisor:
        supervisor.start(Program(name="x", command=lambda: [sys.executable, "-c", source], quiet=("LOG: ",)))
        supervisor.run()
    assert "LOG: hello" not in log.text


def test_lent_files_are_the_tethers_alone() -> None:
    log = Log()
    lent = os.open(os.devnull, os.O_RDONLY)
    listing = "import os, signal; print('open', *os.listdir('/proc/self/fd'), flush=True); signal.pause()"
    try:
        with Supervisor(log, lent=[lent]) as supervisor:
            supervisor.start(program(listing))
            assert supervisor.wait_until(lambda: bool(log.pids("open")), within_s=20)
    finally:
        os.close(lent)
    # 0, 1, 2, and the folder that is being listed.
    assert log.pids("open") == [0, 1, 2, 3]


#: Runs a deaf family, to be killed itself.
_KILLED = f"""
from cli.child import Program
from cli.log_lines import LogLines
from cli.supervisor import Supervisor
import sys
with Supervisor(LogLines()) as supervisor:
    supervisor.start(Program(name="child", command=lambda: [sys.executable, "-c", {STUBBORN_FAMILY!r}], grace_s=0.2))
    supervisor.run()
"""


def test_nothing_is_left_when_the_supervisor_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        family = [int(pid) for pid in killed.stdout.readline().split()[-2:]]
        assert alive(family) == family
        killed.kill()
        wait_until(lambda: alive(family) == [])


def wait_until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
