"""What browsers and caches are told with each answer, on every route that the application has."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.domain import MODEL
from tests.holdings import holder_of_everything, routes

pytestmark = pytest.mark.usefixtures("webhooks_to_here", "worker")


def assert_guarded(answer: TestResponse, route: object) -> None:
    assert answer.headers["X-Content-Type-Options"] == "nosniff", route
    assert answer.headers["Referrer-Policy"] == "no-referrer", route
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, route
    assert "unsafe-eval" not in policy and "*" not in policy, route
    assert "Server" not in answer.headers and "X-Powered-By" not in answer.headers, route


def test_every_route_has_the_headers_whatever_it_answers(application: FlaskClient) -> None:
    holder = holder_of_everything(application)
    for method, rule in sorted(routes(application), key=lambda route: (route[0] == "DELETE", route)):
        path = rule.replace("<path:model_id>", MODEL).replace("<path:filename>", "css/swagger-ui.css")
        for name, value in holder.ids.items():
            path = path.replace(f"<{name}>", value)
        for asked in (holder.ask(method, path, json={} if method != "GET" else None), application.get(path)):
            assert_guarded(asked, (method, rule))
            if rule.startswith("/v1"):
                assert "no-store" in asked.headers["Cache-Control"], (method, rule)
            asked.close()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/livez", 405)])
def test_answers_of_no_route_have_them_too(application: FlaskClient, method: str, path: str, status: int) -> None:
    answer = application.open(path, method=method)
    assert answer.status_code == status
    assert_guarded(answer, path)


def test_an_unforeseen_error_has_them_too(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.account_routes.price_list", lambda: 1 / 0)
    answer = http.get("/v1/pricing")
    assert answer.status_code == 500
    assert_guarded(answer, "/v1/pricing")
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_of_the_description_runs_its_own_scripts_only(application: FlaskClient) -> None:
    page = application.get("/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in inline]
    assert policy["script-src"].split() == ["'self'", *hashes]
    assert " on" not in re.sub(r"<script.*?</script>", "", page.text, flags=re.DOTALL)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for address in loaded:
        answer = application.get(f"/{address}")
        assert answer.status_code == 200, address
        answer.close()
    assert 'url: "openapi.json"' in page.text
