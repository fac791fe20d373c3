"""Run one command so that it never outlives its parent and leaves no process behind.

`tethered()` gives the command line; the rest of this file is what that line runs, in a small Python of its own. It
stands between `inkqueue up` and one child, adopts everything that the child leaves orphaned (it is what Linux calls a
child subreaper), and ends all of it when it is told to, when the child ends, or when its own parent dies, even by
SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Of <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: When the parent was killed, the other servers end at the same time: nothing is worth a longer wait. Seconds.
_ORPHAN_GRACE_S = 5.0

_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def tethered(command: Sequence[str], *, stop_signal: signal.Signals, grace_s: float) -> list[str]:
    """The command line that runs `command` on a tether held by this process.

    SIGTERM to the tether sends `stop_signal` to the command; `grace_s` seconds later, or at a second SIGTERM,
    everything below the tether is killed. The tether ends when nothing is left below it, with the command's exit
    status, or 128 + n if signal n ended it. An orphaned tether gives its command no more than `_ORPHAN_GRACE_S`.

    It must be started from a thread that lives as long as the process: to Linux, the parent whose death it waits for is
    a thread.
    """
    python = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*python, str(os.getpid()), str(int(stop_signal)), str(grace_s), *command]


def main(arguments: Sequence[str]) -> int:
    """Run the command of `tethered()` and give the exit status to end with."""
    parent, stop_signal, grace_s, *command = arguments
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return 1  # the parent died before it could be watched
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    child = os.fork()
    if child == 0:
        _become(command, signal.Signals(int(stop_signal)))
    status = _watch(child, signal.Signals(int(stop_signal)), float(grace_s), int(parent))
    _end_descendants()
    return status if status >= 0 else 128 - status


def descendants(ancestor: int) -> set[int]:
    """The processes below a process, at this moment."""
    parents = dict(_parents())
    below = {ancestor}
    # A parent may have a higher pid than its child, so go round until nothing is added.
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {ancestor}


def _become(command: list[str], stop_signal: signal.Signals) -> None:
    _prctl(_PR_SET_PDEATHSIG, stop_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    # What the parent lent to the tether (the lock of the state folder) is not for the command.
    os.closerange(3, 1024)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def _watch(child: int, stop_signal: signal.Signals, grace_s: float, parent: int) -> int:
    """Wait for the end of the child: its exit status, or minus the signal that ended it."""
    deadline: float | None = None
    while True:
        timeout = 3600.0 if deadline is None else max(0.0, deadline - time.monotonic())
        received = signal.sigtimedwait(_WATCHED, timeout)
        if received is not None and received.si_signo != signal.SIGCHLD:
            if deadline is None:
                os.kill(child, stop_signal)
                orphaned = os.getppid() != parent
                deadline = time.monotonic() + (min(grace_s, _ORPHAN_GRACE_S) if orphaned else grace_s)
            else:
                deadline = time.monotonic()
        if deadline is not None and time.monotonic() >= deadline:
            _kill_descendants()
        if (status := _reap(child)) is not None:
            return status


def _reap(child: int) -> int | None:
    """Collect everything that has ended; the status of the child if it is among them."""
    status = None
    while True:
        try:
            pid, waited = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = os.waitstatus_to_exitcode(waited)


def _end_descendants() -> None:
    while True:
        _kill_descendants()
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _kill_descendants() -> None:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _parents() -> list[tuple[int, int]]:
    """Every process with its parent, from /proc."""
    found = []
    for folder in os.listdir("/proc"):  # noqa: PTH208 - Path objects for each process would cost more than the reading
        if folder.isdecimal():
            try:
                with open(f"/proc/{folder}/stat", "rb") as stat:  # noqa: PTH123 - as above
                    # The name before the last ")" may hold anything, spaces included.
                    found.append((int(folder), int(stat.read().rpartition(b")")[2].split()[1])))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
