from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app


def test_the_api_is_gunicorn_at_the_address_of_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: became.append(command))
    CliRunner().invoke(app, ["api", "--host", "::1", "--port", "9000"], catch_exceptions=False)
    assert became[0][:3] == [sys.executable, "-m", "gunicorn"]
    assert became[0][-3:-1] == ["--bind", "[::1]:9000"]


@pytest.mark.parametrize(
    ("command", "module"), [("worker", "worker.main"), ("courier", "worker.courier"), ("clerk", "api.clerk")]
)
def test_each_other_process_is_a_module_of_its_own(command: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: became.append(command))
    CliRunner().invoke(app, [command], catch_exceptions=False)
    assert became == [[sys.executable, "-m", module]]


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["up", "--port", str(port), "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"Port {port} of 127.0.0.1 is in use by another program; choose one with --port." in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_an_address_of_another_machine_cannot_be_served(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--host", "192.0.2.1", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "192.0.2.1:8080 cannot be served: Cannot assign requested address." in result.output


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.settings import settings

    settings.cache_clear()
    monkeypatch.setenv("INKQUEUE_ROWS", "many")
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 1
    assert "inkqueue: INKQUEUE_ROWS is wrong: Input should be a valid integer" in result.output
