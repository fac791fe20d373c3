"""Which addresses webhooks may be sent to: public ones, and those private ones that the operator allows."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from ssrfguard import Policy, SSRFGuardError

from core.errors import UrlNotAllowed
from core.settings import settings

#: Addresses of one name that are tried in turn; the time limit of an attempt holds for all of them.
_MOST_ADDRESSES = 2


def webhook_policy() -> Policy:
    """The rules for webhooks' addresses."""
    return _policy(settings().webhook_allow_cidrs, settings().webhook_allow_ports)


def check_webhook_url(url: str, *, param: str) -> None:
    """Judge what can be judged without the network; where a name leads is judged at each attempt.

    Raises:
        UrlNotAllowed: No webhook may be sent there; `param` names the field.
    """
    if not url.isascii():
        raise UrlNotAllowed("this address has characters that must be percent-encoded", param=param)
    try:
        target = webhook_policy().check_url(url)
        if target.address is not None:
            webhook_policy().check_address(target.address)
    except SSRFGuardError as exc:
        raise UrlNotAllowed(
            f"webhooks may not be sent to this address ({exc}); the operator can allow networks and ports with "
            "INKQUEUE_WEBHOOK_ALLOW_CIDRS and INKQUEUE_WEBHOOK_ALLOW_PORTS",
            param=param,
        ) from exc


@lru_cache(maxsize=2)
def _policy(networks: tuple[IPv4Network | IPv6Network, ...], ports: tuple[int, ...]) -> Policy:
    return Policy(allowed_networks=networks, allowed_ports=frozenset(ports), max_connection_attempts=_MOST_ADDRESSES)
