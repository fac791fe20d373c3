"""Tells at the end how long each recovery took."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the recovery times of the tests that passed."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "recovery_s":
                terminalreporter.write_line(f"recovered in {value:5.1f} s: {report.nodeid.partition('[')[2][:-1]}")
