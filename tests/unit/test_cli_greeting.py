from __future__ import annotations

from pathlib import Path

import pytest

from cli.first_line import FirstLine, SampleNotRead
from cli.greeting import greeting

ADDRESS = "http://127.0.0.1:8080"
READ = FirstLine(text="Il fait très froid", seconds=0.314, model="ppocr-v6", path="/v1/jobs/job_1")


def test_the_greeting_shows_the_text_its_time_and_the_lines_to_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    shown = greeting(ADDRESS, "ink_abc", Path(".inkqueue/api_key"), READ)
    assert "ppocr-v6 read tests/data/line.jpg in 0.31 s:\n\n  Il fait très froid\n" in shown
    assert (
        """  curl -H "Authorization: Bearer $(cat .inkqueue/api_key)" -H 'Content-Type: image/jpeg' """
        "--data-binary @tests/data/line.jpg http://127.0.0.1:8080/v1/jobs\n"
        """  curl -H "Authorization: Bearer $(cat .inkqueue/api_key)" """
        "'http://127.0.0.1:8080/v1/jobs/job_1?wait=30'\n"
    ) in shown


def test_paths_outside_the_current_folder_are_whole_and_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    shown = greeting(ADDRESS, "ink_abc", tmp_path / "my state" / "api_key", READ)
    assert f"$(cat '{tmp_path}/my state/api_key')" in shown


def test_a_sample_that_was_not_read_is_said_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    shown = greeting(ADDRESS, "ink_abc", Path("api_key"), SampleNotRead("its job job_1 is failed: no model"))
    assert "it did not read tests/data/line.jpg: its job job_1 is failed: no model" in shown
    assert "ink_abc" in shown
