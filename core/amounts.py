"""Credits for people, micro-credits for arithmetic."""

from __future__ import annotations

from decimal import Decimal

#: Micro-credits in one credit.
CREDIT_MICRO = 1_000_000


def credits_of(amount_micro: int) -> Decimal:
    """Micro-credits in credits, exactly, with at most 6 decimals."""
    return Decimal(amount_micro) / CREDIT_MICRO
