"""Which secrets sign for whom: each endpoint has its own, and each account one for the webhooks of single jobs."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from core import signing
from core.errors import Unavailable
from core.webhook_tables import WebhookSecretRow

#: How long both secrets sign after a rotation, if nothing else is said.
OVERLAP = timedelta(hours=24)


def ensure_secret(connection: Connection, owner_id: str) -> str:
    """The secret of an endpoint or an account; made if there is none.

    Raises:
        Unavailable: The operator has set no secret key, or another one.
    """
    connection.execute(
        insert(WebhookSecretRow)
        .values(owner_id=owner_id, sealed=signing.seal(signing.new_secret()))
        .on_conflict_do_nothing()
    )
    sealed = connection.execute(select(WebhookSecretRow.sealed).where(WebhookSecretRow.owner_id == owner_id))
    return signing.unseal(sealed.scalar_one())


def rotate_secret(connection: Connection, owner_id: str, *, overlap: timedelta = OVERLAP) -> str:
    """A new secret; the one before signs beside it until the overlap is over.

    Raises:
        Unavailable: The operator has set no secret key.
    """
    secret = signing.new_secret()
    fresh = insert(WebhookSecretRow).values(owner_id=owner_id, sealed=signing.seal(secret))
    connection.execute(
        fresh.on_conflict_do_update(
            index_elements=["owner_id"],
            set_={
                "sealed": fresh.excluded.sealed,
                "previous": WebhookSecretRow.sealed,
                "previous_until": func.now() + overlap,
            },
        )
    )
    return secret


def forget_secret(connection: Connection, owner_id: str) -> None:
    """Delete the secrets of an endpoint that is deleted."""
    connection.execute(delete(WebhookSecretRow).where(WebhookSecretRow.owner_id == owner_id))


def secrets_in_use(connection: Connection, owner_id: str) -> list[str]:
    """The secrets that sign now, the newest first; a previous one that can no longer be read is left out.

    Raises:
        Unavailable: The operator has set no secret key, or another one.
    """
    row = connection.execute(
        select(
            WebhookSecretRow.sealed,
            WebhookSecretRow.previous,
            (WebhookSecretRow.previous_until > func.now()).label("overlaps"),
        ).where(WebhookSecretRow.owner_id == owner_id)
    ).one_or_none()
    if row is None:
        return [ensure_secret(connection, owner_id)]
    in_use = [signing.unseal(row.sealed)]
    if row.previous and row.overlaps:
        # Sealed under a secret key that the operator has changed since, it is lost, and its receivers have the new one.
        with suppress(Unavailable):
            in_use.append(signing.unseal(row.previous))
    return in_use
