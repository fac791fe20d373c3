"""Where the service may be sent by its callers: one table for both doors, images to fetch and webhooks to send."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from api.image_urls import fetch_image
from core.delivery_claims import ClaimedDelivery
from core.errors import UrlNotAllowed
from core.settings import Settings, settings
from core.webhook_guard import check_webhook_url
from worker import webhook_request
from worker.webhook_request import WebhookSender

#: Addresses that are refused by what they say.
REFUSED = [
    # Private, local and special networks, IPv4.
    "http://127.0.0.1/",
    "http://127.8.8.8/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    # What tells a cloud's machines their passwords.
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://[fd00:ec2::254]/",
    # The same in other digits.
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://%31%32%37.0.0.1/",
    # IPv6, and IPv4 inside of it.
    "http://[::1]/",
    "http://[::]/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[ff02::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    # Who one seems to be, and where one really goes.
    "http://user:password@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com:80@127.0.0.1/",
    # Ports.
    "http://example.com:22/",
    "http://example.com:6379/",
    "https://example.com:5432/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:-1/",
    # Other schemes, and no address at all.
    "ftp://example.com/line.png",
    "file:///etc/passwd",
    "gopher://example.com/",
    "dict://127.0.0.1:6379/info",
    "unix:///run/redis.sock",
    "javascript:alert(1)",
    "//example.com/line.png",
    "line.png",
    "http://",
    "http:///line.png",
    "http://[::1",
    "http://exa mple.com/",
    "http://example.com/\r\nHost: other",
    "http://example.com\t/",
    "http://" + "a" * 9000,
    "",
]
#: Addresses that are refused by where they lead: names, and what name look-ups take for numbers, hexadecimal, decimal,
#: octal or short.
NAMES = [
    "http://localhost/",
    "http://localhost./",
    "http://a.localhost/",
    "http://metadata.google.internal/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://2130706433/",
    "http://2852039166/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.1./",
]
#: What a name may lead to, for both to be refused.
INWARDS = [
    ["127.0.0.1"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["100.64.0.1"],
    ["0.0.0.0"],
    ["224.0.0.1"],
    ["::1"],
    ["fe80::1"],
    ["fd00:ec2::254"],
    ["::ffff:127.0.0.1"],
    ["::ffff:169.254.169.254"],
    ["64:ff9b::a9fe:a9fe"],
    ["2002:7f00:1::"],
]
SYSTEM = socket.getaddrinfo
HOSTS = {
    "localhost": ["127.0.0.1", "::1"],
    "a.localhost": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
}

Door = Callable[[str], None]


def for_an_image(url: str) -> None:
    fetch_image(url, Settings(url_timeout_s=2))


def for_a_webhook(url: str) -> None:
    """What a courier does whatever was judged before: names lead elsewhere by now, and settings were others."""
    delivery = ClaimedDelivery.__new__(ClaimedDelivery)
    object.__setattr__(delivery, "url", url)
    object.__setattr__(delivery, "event_id", "evt_1")
    sender = WebhookSender()
    try:
        result = sender.attempt(delivery)
    finally:
        sender.close()
    assert result.status_code is None
    if "not allowed" in str(result.error):
        raise UrlNotAllowed(result.error)
    raise AssertionError(result.error)


@pytest.fixture(autouse=True)
def _nobody_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def connected(*address: object) -> None:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(webhook_request, "content", lambda _: (b"{}", [b"secret"]))
    monkeypatch.setattr(socket, "create_connection", connected)
    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setattr(socket, "getaddrinfo", leading_to(HOSTS))
    settings.cache_clear()
    yield
    settings.cache_clear()


def leading_to(names: dict[str, list[str]]) -> Callable[..., object]:
    """A name server that knows these names, and takes numbers as the system's does, odd spellings included."""

    def look_up(host: str, port: int, *_: object) -> object:
        addresses = names.get(host.rstrip("."), [host])
        return [
            answer
            for address in addresses
            for answer in SYSTEM(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        ]

    return look_up


@pytest.mark.parametrize("door", [for_an_image, for_a_webhook])
@pytest.mark.parametrize("url", [*REFUSED, *NAMES])
def test_an_address_that_leads_inwards_is_refused_at_both_doors(url: str, door: Door) -> None:
    with pytest.raises(UrlNotAllowed):
        door(url)


@pytest.mark.parametrize("door", [for_an_image, for_a_webhook])
@pytest.mark.parametrize("addresses", [*INWARDS, ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"]])
def test_a_name_that_leads_inwards_is_refused_at_both_doors(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], door: Door
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", leading_to({"public.example": addresses}))
    with pytest.raises(UrlNotAllowed):
        door("https://public.example/line.png")


@pytest.mark.parametrize("url", REFUSED)
def test_what_needs_no_network_to_be_judged_is_refused_when_a_webhook_is_named(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_webhook_url(url, param="url")


def test_what_the_operator_allows_is_allowed_and_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INKQUEUE_WEBHOOK_ALLOW_CIDRS", "10.0.0.0/24")
    settings.cache_clear()
    check_webhook_url("http://10.0.0.7/hook", param="url")
    for url in ("http://10.0.1.7/hook", "http://127.0.0.1/hook", "http://10.0.0.7:6379/"):
        with pytest.raises(UrlNotAllowed):
            check_webhook_url(url, param="url")
    allowing = Settings(url_allow_cidrs=(ip_network("10.0.0.0/24"),), url_timeout_s=2)
    with pytest.raises(UrlNotAllowed):
        fetch_image("http://10.0.1.7/", allowing)
