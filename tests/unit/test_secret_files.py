from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from cli.main import app
from cli.secret_files import write_private
from core import settings as settings_module
from core.settings import Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTGRES_PASSWORD", "DATABASE_URL", "INKQUEUE_SECRET_KEY", "INKQUEUE_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)


def make_secrets(folder: Path) -> dict[str, str]:
    done = CliRunner().invoke(app, ["secrets", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output == ""
    return {file.name: file.read_text().strip() for file in folder.iterdir()}


def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("INKQUEUE_SECRETS_DIR", str(folder))
    return settings_module.settings.__wrapped__()


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    assert first == make_secrets(tmp_path)
    assert min(map(len, first.values())) >= 32
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_secret_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    synced: list[tuple[bool, bool]] = []

    def sync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    write_private(path, "nobody knows it")
    assert synced == [(False, False), (True, True)]
    assert path.read_text() == "nobody knows it\n"


def test_two_services_have_no_secret_in_common(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = map(make_secrets, folders)
    assert not set(one.values()) & set(two.values())


def test_the_settings_are_read_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_secrets(tmp_path)
    found = read(tmp_path, monkeypatch)
    assert found.secret_key == made["inkqueue_secret_key"]
    assert make_url(found.database_url).password == made["postgres_password"]
    assert make_url(found.database_url).host == "postgres"


def test_a_variable_goes_before_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_secrets(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://elsewhere/inkqueue")
    assert make_url(read(tmp_path, monkeypatch).database_url).host == "elsewhere"


def test_a_password_of_ones_own_is_taken_whatever_its_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "a:b@c/d %é")
    assert make_secrets(tmp_path)["postgres_password"] == "a:b@c/d %é"
    assert make_url(read(tmp_path, monkeypatch).database_url).password == "a:b@c/d %é"
