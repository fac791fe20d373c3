from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from api.image_urls import fetch_image
from core.errors import ImageTooLarge, UrlNotAllowed, UrlUnreachable
from core.settings import Settings
from tests import image_samples as samples
from tests.waiting import wait_until

PNG = samples.encoded(samples.ink_line())


class Site(ThreadingHTTPServer):
    """A web site of strange pages on 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        #: Paths that were asked for.
        self.asked: list[str] = []
        #: Paths that are still being answered.
        self.answering: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Pages(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answering.append(self.path)
        try:
            page = urlsplit(self.path)
            getattr(self, page.path.strip("/").replace("-", "_"))(**{k: v[0] for k, v in parse_qs(page.query).items()})
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.server.answering.remove(self.path)

    def line(self) -> None:
        self._answer(PNG)

    def large(self) -> None:
        self._answer(bytes(3 * 2**20))

    def endless(self) -> None:
        self._begin()
        while not self.server.closing.is_set():
            self.wfile.write(bytes(2**16))

    def dripping(self) -> None:
        self._begin()
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def dripping_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"X-Drip: 1\r\n")

    def silent(self) -> None:
        self.server.closing.wait()

    def missing(self) -> None:
        self.send_error(404)

    def bomb(self) -> None:
        self._answer(gzip.compress(bytes(50 * 2**20)), encoding="gzip")

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def hops(self, left: str) -> None:
        self.redirect(f"/hops?left={int(left) - 1}" if int(left) else "/line")

    def slow_hops(self) -> None:
        self.server.closing.wait(0.5)
        self.redirect("/slow-hops")

    def _begin(self) -> None:
        self.send_response(200)
        self.end_headers()

    def _answer(self, body: bytes, *, encoding: str | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield site
        site.closing.set()
        site.shutdown()
        thread.join()


@pytest.fixture
def permitted(site: Site) -> Settings:
    """Settings of an operator who lets image URLs point to that site."""
    return settings_for(site)


def settings_for(site: Site, *, url_timeout_s: float = 5, cidrs: str = "127.0.0.0/8") -> Settings:
    return Settings(
        url_allow_cidrs=cidrs,
        url_allow_ports=(80, 443, site.server_port),
        url_timeout_s=url_timeout_s,
        max_image_bytes=2**20,
    )


def test_an_image_is_fetched_as_it_is(site: Site, permitted: Settings) -> None:
    assert fetch_image(f"{site.url}/line", permitted) == PNG


def test_three_redirects_are_followed_and_four_are_not(site: Site, permitted: Settings) -> None:
    assert fetch_image(f"{site.url}/hops?left=2", permitted) == PNG
    with pytest.raises(UrlUnreachable, match="more than 3 times"):
        fetch_image(f"{site.url}/hops?left=3", permitted)


def test_another_status_than_200_is_named(site: Site, permitted: Settings) -> None:
    with pytest.raises(UrlUnreachable, match="status 404"):
        fetch_image(f"{site.url}/missing", permitted)


@pytest.mark.parametrize("page", ["large", "endless"])
def test_more_bytes_than_an_image_may_have_are_not_read(site: Site, permitted: Settings, page: str) -> None:
    with pytest.raises(ImageTooLarge):
        fetch_image(f"{site.url}/{page}", permitted)


def test_a_compressed_answer_is_never_unfolded(site: Site, permitted: Settings) -> None:
    assert len(fetch_image(f"{site.url}/bomb", permitted)) < 2**20


@pytest.mark.parametrize("page", ["silent", "dripping", "dripping-headers", "slow-hops"])
def test_the_budget_holds_for_the_whole_fetch_and_nothing_is_left_behind(site: Site, page: str) -> None:
    begun_s = time.monotonic()
    with pytest.raises(UrlUnreachable, match=r"within 0\.8 s"):
        fetch_image(f"{site.url}/{page}", settings_for(site, url_timeout_s=0.8))
    assert time.monotonic() - begun_s < 2
    if page != "silent":  # a page that writes notices that nobody reads
        wait_until(lambda: f"/{page}" not in site.answering)


def test_the_budget_holds_for_a_name_server_that_stalls(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answers.wait(30))
    begun_s = time.monotonic()
    with pytest.raises(UrlUnreachable):
        fetch_image("http://slow.example/line.png", settings_for(site, url_timeout_s=0.5))
    assert time.monotonic() - begun_s < 2
    answers.set()


def test_refused_silent_and_unknown_hosts_read_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings = settings_for(site, url_timeout_s=0.5).model_copy(
        update={"url_allow_ports": (port, site.server_port, 80)}
    )
    urls = (f"http://127.0.0.1:{port}/", f"{site.url}/silent", "http://nowhere.invalid/")
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to({}))
    messages = set()
    for url in urls:
        with pytest.raises(UrlUnreachable) as refusal:
            fetch_image(url, settings)
        messages.add(refusal.value.message)
    assert len(messages) == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::1]/",
        "//10.0.0.1/",
        "http://bob:secret@example.com/",
        "http://example.com:6379/",
        "file:///etc/passwd",
        "gopher://example.com/",
    ],
)
def test_a_redirect_inwards_is_refused(site: Site, permitted: Settings, target: str) -> None:
    with pytest.raises(UrlNotAllowed):
        fetch_image(f"{site.url}/redirect?to={target}", permitted)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]]
)
def test_a_name_that_leads_inwards_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to({"public.example": addresses}))
    before = len(site.asked)
    with pytest.raises(UrlNotAllowed):
        fetch_image(f"http://public.example:{site.server_port}/line", settings_for(site, cidrs=""))
    assert len(site.asked) == before


def test_a_name_that_turns_inwards_after_the_check_is_not_asked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rebinding(host: str, *_: object) -> object:
        asked.append(host)
        return answers_of(["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"], site.server_port)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert fetch_image(f"http://rebinding.example:{site.server_port}/line", settings_for(site)) == PNG
    assert asked == ["rebinding.example"]


def test_a_proxy_of_the_environment_is_not_used(
    site: Site, permitted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch_image(f"{site.url}/line", permitted) == PNG


def answers_of(addresses: list[str], port: int) -> list[tuple[object, ...]]:
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in addresses
    ]


def resolving_to(names: dict[str, list[str]]) -> Callable[..., object]:
    """A name server that knows these names and literal addresses only."""
    system = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: int) -> object:
        if host in names:
            return answers_of(names[host], port)
        if host.replace(".", "").isdigit():
            return system(host, port, *rest)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    return look_up
