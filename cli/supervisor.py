"""The children of `inkqueue up` together: kept alive while it runs, and ended in order when it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from cli.child import Child, Program, describe_end
from cli.errors import CannotStart
from cli.log_lines import LogLines
from cli.restart_policy import Life, RestartPolicy

#: How often a condition is looked at, seconds.
_LOOK_S = 0.05
#: How long a child may take to vanish after it was killed, seconds.
_KILL_S = 5.0
#: How long a child may still take to end after a second Ctrl-C, seconds.
_HURRY_S = 1.0


class StopRequested(Exception):
    """Ctrl-C, SIGTERM, or the end of the terminal."""


@dataclass
class _Watched:
    child: Child
    began: float
    lives: list[Life] = field(default_factory=list)
    #: When to start it again; None while it lives.
    restart_at: float | None = None


class Supervisor:
    """Starts children, restarts what dies, and at the end of its `with` block ends them, the last started first.

    Everything happens in the thread that makes it, which must be the main one: Linux ends tethers with the *thread*
    that started them, and this thread alone takes the signals, which stay blocked inside the `with` block.
    """

    def __init__(self, log: LogLines, *, policy: RestartPolicy | None = None, lent: Sequence[int] = ()) -> None:
        self._log = log
        self._policy = policy or RestartPolicy()
        self._lent = lent
        self._all: list[_Watched] = []
        self._stops = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
            self._stops.add(signal.SIGHUP)
        self._mask: set[signal.Signals] = set()

    def __enter__(self) -> Self:
        self._mask = {signal.Signals(number) for number in self._blocked()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_all()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def start(self, program: Program) -> None:
        """Start a child; from now on it is kept alive.

        Raises:
            CannotStart: What it needs could not be prepared.
        """
        watched = _Watched(Child(program, self._log), began=time.monotonic())
        watched.child.start(lent=self._lent)
        self._all.append(watched)

    def wait_until(self, true: Callable[[], bool], *, within_s: float) -> bool:
        """Keep the children alive until a condition holds, or the time is over; whether it holds.

        Raises:
            StopRequested: A signal asks for the end.
            CannotStart: A child dies too often.
        """
        deadline = time.monotonic() + within_s
        while not true():
            if time.monotonic() >= deadline:
                return False
            self._turn(_LOOK_S)
        return True

    def keep(self, seconds: float) -> None:
        """Keep the children alive for a while, as `run()` does."""
        self.wait_until(lambda: False, within_s=seconds)

    def run(self) -> None:
        """Keep the children alive for good.

        Raises:
            StopRequested: A signal asks for the end.
            CannotStart: A child dies too often.
        """
        while True:
            restarts = [watched.restart_at for watched in self._all if watched.restart_at is not None]
            self._turn(max(0.0, min(restarts) - time.monotonic()) if restarts else 3600.0)

    def _blocked(self) -> set[signal.Signals | int]:
        return signal.pthread_sigmask(signal.SIG_BLOCK, {*self._stops, signal.SIGCHLD})

    def _turn(self, wait_s: float) -> None:
        if self._stop_within(wait_s):
            raise StopRequested
        for watched in self._all:
            self._tend(watched)

    def _stop_within(self, wait_s: float) -> bool:
        """Whether a signal asks for the end; returns early when a child ends."""
        received = signal.sigtimedwait({*self._stops, signal.SIGCHLD}, wait_s)
        return received is not None and received.si_signo != signal.SIGCHLD

    def _tend(self, watched: _Watched) -> None:
        now = time.monotonic()
        if watched.restart_at is None:
            status = watched.child.status()
            if status is not None:
                self._after_death(watched, describe_end(status))
        elif now >= watched.restart_at:
            watched.restart_at = None
            watched.began = now
            try:
                watched.child.start(lent=self._lent)
            except CannotStart as error:
                self._after_death(watched, f"does not start: {error.message}")

    def _after_death(self, watched: _Watched, how: str) -> None:
        name = watched.child.program.name
        watched.lives.append(Life(began=watched.began, ended=time.monotonic()))
        wait_s = self._policy.wait_after(watched.lives)
        if wait_s is None:
            raise CannotStart(
                f"{name} {how}, for the {self._policy.most_deaths}th time within {self._policy.window_s:.0f} s, "
                "so everything ends. Its last lines:\n" + "\n".join(f"    {line}" for line in watched.child.tail)
            )
        self._log.say(f"{name} {how}; it starts again in {wait_s:.0f} s")
        watched.restart_at = watched.lives[-1].ended + wait_s

    def _end_all(self) -> None:
        hurried = False
        for watched in reversed(self._all):
            if watched.restart_at is None:
                hurried = self._end(watched.child, hurried=hurried)

    def _end(self, child: Child, *, hurried: bool) -> bool:
        """End one child; whether the user is in a hurry by now."""
        child.end()
        deadline = time.monotonic() + (_HURRY_S if hurried else child.program.grace_s)
        while child.status() is None and time.monotonic() < deadline:
            if self._stop_within(_LOOK_S) and not hurried:
                hurried = True
                deadline = min(deadline, time.monotonic() + _HURRY_S)
        if child.status() is None:
            self._log.say(f"{child.program.name} does not end, so it is killed")
            child.end()
            self._wait_for_the_end(child)
        return hurried

    def _wait_for_the_end(self, child: Child) -> None:
        deadline = time.monotonic() + _KILL_S
        while child.status() is None and time.monotonic() < deadline:
            self._stop_within(_LOOK_S)
        if child.status() is None:
            child.cut()
