"""The command line of each process of the service, in one place."""

from __future__ import annotations

import sys

#: Loads the models and reads.
WORKER_COMMAND = [sys.executable, "-m", "worker.main"]

#: Sweeps: gives back what was lost, and delivers what is due.
COURIER_COMMAND = [sys.executable, "-m", "worker.courier"]

#: Takes batches from their file to their results.
CLERK_COMMAND = [sys.executable, "-m", "api.clerk"]


def api_command(host: str, port: int) -> list[str]:
    """The HTTP server; all but its address is set in `api/server.py`, from the settings."""
    server = [sys.executable, "-m", "gunicorn", "--config", "python:api.server"]
    return [*server, "--bind", f"{bracketed(host)}:{port}", "api.app:create_app()"]


def bracketed(host: str) -> str:
    """The host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
