from __future__ import annotations

import io

import pytest

from cli.log_lines import LogLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


def test_each_line_carries_the_name_of_its_process() -> None:
    stream = io.StringIO()
    log = LogLines(stream)
    log.pass_on("api", "listening")
    log.say("one\ntwo")
    assert stream.getvalue() == "api      | listening\ninkqueue | one\ninkqueue | two\n"


def test_a_terminal_shows_the_name_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    LogLines(stream).pass_on("api", "listening")
    assert stream.getvalue() == "\x1b[32mapi      |\x1b[0m listening\n"


def test_a_terminal_whose_user_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    LogLines(stream).pass_on("api", "listening")
    assert stream.getvalue() == "api      | listening\n"


def test_a_reader_that_has_gone_does_no_harm() -> None:
    LogLines(ClosedPipe()).say("nobody hears this")


def test_letters_that_the_terminal_lacks_are_replaced() -> None:
    stream = io.TextIOWrapper(written := io.BytesIO(), encoding="ascii")
    LogLines(stream).pass_on("api", "né")
    assert written.getvalue() == b"api      | n?\n"
