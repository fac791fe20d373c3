"""Ids that callers give their jobs themselves, in the paths of those jobs."""

from __future__ import annotations

from flask import request

from api.auth import caller
from api.request_schemas import OWN_ID
from core import idempotency
from core.database import looking


def resolve_own_id() -> None:
    """Put the job's id in the place of one that its caller gave it; runs before a request whose caller is known."""
    named = (request.view_args or {}).get("job_id", "")
    if request.method != "PUT" and OWN_ID.fullmatch(named):
        with looking() as connection:
            job_id = idempotency.job_of_own_id(connection, caller().account_id, named)
        if job_id is not None:
            request.view_args = (request.view_args or {}) | {"job_id": job_id}
