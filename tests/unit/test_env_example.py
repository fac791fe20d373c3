from __future__ import annotations

import ast
import inspect
import re
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from core.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
#: What comes after is held to the compose files, by `test_compose_files.py`.
_EXAMPLE = (_ROOT / ".env.example").read_text().partition("# Of docker compose alone:")[0]


def docstrings() -> dict[str, str]:
    """What stands below each field of Settings."""
    (settings,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(settings, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"INKQUEUE_{field.upper()}"


def spelled(default: object) -> str:
    """A default as an operator would write it."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, Path):
        return str(default.relative_to(_ROOT))
    return str(default).lower() if isinstance(default, bool) else str(default)


def entry(field: str) -> str:
    sentence = re.split(r"(?<=\.) ", docstrings()[field])[0]
    comment = textwrap.fill(sentence, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return f"{comment}\n#{variable(field)}={spelled(Settings.model_fields[field].default)}\n"


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_stands_in_the_example_with_its_meaning_and_default(field: str) -> None:
    assert f"\n{entry(field)}" in _EXAMPLE


def test_the_example_keeps_the_order_of_the_settings_and_names_nothing_else() -> None:
    assert re.findall(r"^#?([A-Z_]+)=", _EXAMPLE, re.MULTILINE) == [variable(field) for field in Settings.model_fields]


def test_an_example_without_its_comment_signs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    usual = Settings().model_dump()
    for name, value in re.findall(r"^#([A-Z_]+)=(.*)$", _EXAMPLE, re.MULTILINE):
        monkeypatch.setenv(name, value)
    assert Settings().model_dump() == usual | {"model_dir": Path("models"), "prices": Path("core/prices.toml")}
