"""`inkqueue up` for faults: `python -m tests.faults.up PROXY_PORT VALKEY_PORT up ...`; three parts of it are others.

- Valkey, embedded and supervised as ever, is reached through a proxy of the test's, which can go silent.
- The worker is `tests/faults/worker.py`, whose device can be made to hang.
- The supervisor restarts what died after a second however often it dies: faults come thicker here than in life, where
  five deaths of a process within a minute end the service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from unittest.mock import patch

from cli.embedded_valkey import EmbeddedValkey
from cli.main import app
from cli.restart_policy import RestartPolicy
from cli.supervisor import Supervisor

_PATIENT = RestartPolicy(longest_wait_s=1.0, most_deaths=10_000)


def main(proxy_port: str, valkey_port: str, words: Sequence[str]) -> None:
    """Run the command line `words`."""

    class ProxiedValkey(EmbeddedValkey):
        @property
        def url(self) -> str:
            return f"redis://127.0.0.1:{proxy_port}/0"

        def command(self) -> list[str]:
            return [*super().command(), "--port", valkey_port, "--bind", "127.0.0.1"]

    with patch.multiple(
        "cli.up",
        EmbeddedValkey=ProxiedValkey,
        WORKER_COMMAND=[sys.executable, "-m", "tests.faults.worker"],
        Supervisor=partial(Supervisor, policy=_PATIENT),
    ):
        app(words)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
