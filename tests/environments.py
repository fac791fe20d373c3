"""The environment of a user's terminal, in which nothing of inkqueue is set."""

from __future__ import annotations

import os


def users_environment(**settings: str) -> dict[str, str]:
    """This process's variables without any setting, for the integration tests name their own servers there."""
    ours = ("INKQUEUE_", "DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings
