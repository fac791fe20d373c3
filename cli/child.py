"""One child of `inkqueue up`: a program, its process, its lines, and its lives."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from cli.log_lines import LogLines
from cli.tether import tethered

#: How many last lines are kept, to be shown when the child is given up.
_TAIL_LINES = 12


def _nothing() -> None:
    """Most programs need no preparation."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a child runs."""

    name: str
    command: Callable[[], Sequence[str]]
    #: Added to the environment of this process.
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    #: How long the program may take to end after its stop signal, seconds.
    grace_s: float = 10.0
    #: Called before every start.
    prepare: Callable[[], None] = _nothing
    #: Lines that hold one of these are kept, but not passed on.
    quiet: tuple[str, ...] = ()


class Child:
    """A program in a process on a tether. Its methods are called from one thread, the main one."""

    def __init__(self, program: Program, log: LogLines) -> None:
        self.program = program
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self, *, lent: Sequence[int] = ()) -> None:
        """Start the process.

        Args:
            lent: Open files that its tether holds until nothing is left of the process, such as a lock.

        Raises:
            CannotStart: What it needs could not be prepared.
        """
        self.program.prepare()
        tether = tethered(self.program.command(), stop_signal=self.program.stop_signal, grace_s=self.program.grace_s)
        self._process = subprocess.Popen(
            tether,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self.program.environment},
            pass_fds=lent,
            # Ctrl-C in the terminal is for `inkqueue up` alone, which then ends its children in order.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def status(self) -> int | None:
        """The exit status when the process and everything below it has ended, 128 + n after signal n; else None."""
        if self._process is None:
            return None
        status = self._process.poll()
        if status is not None and self._reader is not None:
            # All writers are gone, so the reader is at the end of the lines or about to be.
            self._reader.join(timeout=1.0)
        return status

    def end(self) -> None:
        """Ask the process to end; called a second time, kill it and everything below it."""
        if self._process is not None:
            self._process.terminate()

    def cut(self) -> None:
        """Kill the tether, if even it hangs."""
        if self._process is not None:
            self._process.kill()

    def _pass_on(self, lines: BinaryIO) -> None:
        with lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip()
                if line:
                    self.tail.append(line)
                if line and not any(part in line for part in self.program.quiet):
                    self._log.pass_on(self.program.name, line)


def describe_end(status: int) -> str:
    """An exit status in words."""
    if status > 128:
        return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with status {status}"
