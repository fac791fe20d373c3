"""What the user reads when the service is up: what it read first, and the lines to paste."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cli.first_line import SAMPLE, FirstLine, SampleNotRead


def greeting(address: str, key: str, key_file: Path, first: FirstLine | SampleNotRead) -> str:
    """The message, of several lines.

    Args:
        address: Of the API, `http://host:port`.
        key: The first API key.
        key_file: Where it is kept, as the user may type the path.
        first: What the sample was read as, or why it was not.
    """
    sample = _typed(SAMPLE)
    authorization = f'-H "Authorization: Bearer $(cat {_typed(key_file)})"'
    path = first.path if isinstance(first, FirstLine) else "/v1/jobs/JOB_ID"
    return f"""
{_result(first, sample)}

  address   {address}
  API key   {key}
            (kept in {_typed(key_file)})

Read a line, and wait for its text:

  curl {authorization} -H 'Content-Type: image/jpeg' --data-binary @{sample} {address}/v1/jobs
  curl {authorization} '{address}{path}?wait=30'
"""


def _result(first: FirstLine | SampleNotRead, sample: str) -> str:
    if isinstance(first, SampleNotRead):
        return f"inkqueue is up, but it did not read {sample}: {first}"
    return f"inkqueue is up. {first.model} read {sample} in {first.seconds:.2f} s:\n\n  {first.text}"


def _typed(path: Path) -> str:
    """The path as it is typed in a shell in the current folder."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path.resolve()) if relative.startswith("..") else relative)
