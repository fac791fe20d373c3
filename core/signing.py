"""Secrets of webhooks: made, encrypted at rest, and used to sign.

Source:
    Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from standardwebhooks import Webhook

from core.errors import Unavailable
from core.settings import settings

_PREFIX = "whsec_"
#: The specification allows 24 to 64.
_SECRET_BYTES = 32


def new_secret() -> str:
    """A secret in the form that receivers' libraries take."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def seal(secret: str) -> bytes:
    """Encrypt a secret for the database.

    Raises:
        Unavailable: The operator has set no secret key.
    """
    return _cipher(settings().secret_key).encrypt(secret.encode())


def unseal(sealed: bytes) -> str:
    """Decrypt what `seal` made.

    Raises:
        Unavailable: The operator has set no secret key, or another one.
    """
    try:
        return _cipher(settings().secret_key).decrypt(sealed).decode()
    except InvalidToken as exc:
        raise Unavailable("INKQUEUE_SECRET_KEY has changed: this webhook secret must be rotated") from exc


def signature_headers(
    secrets_in_use: Sequence[str], *, event_id: str, sent_at: datetime, body: bytes
) -> dict[str, str]:
    """The three headers of a webhook, with one signature for each secret.

    Args:
        secrets_in_use: The present secret, and while a rotation is under way the one before it.
        event_id: The same for all attempts; no dot in it.
        sent_at: When this attempt is made.
        body: Exactly the bytes that are sent.
    """
    text = body.decode()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, sent_at, text) for secret in secrets_in_use),
    }


@lru_cache(maxsize=2)
def _cipher(secret_key: str) -> Fernet:
    if not secret_key:
        raise Unavailable("webhooks are not set up here: the operator must set INKQUEUE_SECRET_KEY")
    # Hashed, so that the operator may choose any long text, not just 32 bytes of base64.
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret_key.encode()).digest()))
