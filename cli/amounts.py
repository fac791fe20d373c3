"""Amounts of credits as an operator types them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import typer

from core.amounts import CREDIT_MICRO


def micro_credits(amount: str) -> int:
    """Credits in micro-credits, exactly; what is no amount of credits ends the command."""
    try:
        micro = Decimal(amount) * CREDIT_MICRO
    except InvalidOperation:
        raise typer.BadParameter(f"{amount} is not a number") from None
    if not micro.is_finite() or micro <= 0 or micro != int(micro) or micro >= 2**62:
        raise typer.BadParameter("credits are positive, with at most 6 decimals")
    return int(micro)
