"""One readable log: every line on standard output, with the name of the process that said it before it."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import TextIO

#: Names are padded to this many characters, so that the text starts in one column.
_NAME_WIDTH = len("inkqueue")

#: ANSI foreground colours, told apart on light and on dark ground; `inkqueue` itself is bold.
_COLOURS = {
    "inkqueue": "1",
    "postgres": "34",
    "valkey": "35",
    "api": "32",
    "worker": "36",
    "courier": "33",
    "clerk": "94",
}


class LogLines:
    """Writes lines of many processes, whole and in turn; any thread may use it."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            # A text that was read may hold letters that the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Log what `inkqueue up` itself has to say; it may be several lines."""
        for line in text.splitlines():
            self.pass_on("inkqueue", line)

    def pass_on(self, name: str, line: str) -> None:
        """Log a line of the process of this name."""
        before = f"{name:<{_NAME_WIDTH}} |"
        if self._coloured:
            before = f"\x1b[{_COLOURS.get(name, '37')}m{before}\x1b[0m"
        self._write(f"{before} {line}\n")

    def show(self, text: str) -> None:
        """Write something to be read and copied, with nothing before its lines."""
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except BrokenPipeError:
                # Nobody reads any more (as after `| head`); the service is no worse for it.
                return
