"""What one account has, no other sees or changes; tried on every route that the application has."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from core.account_tables import KeyRow
from core.accounts import KeyTerms, Scope
from core.database import transaction
from core.settings import settings
from tests.domain import MODEL, new_key, png, rows
from tests.holdings import LINE, OWN_ID, Holder, holder_of_everything, routes
from tests.tables import Base

pytestmark = pytest.mark.usefixtures("webhooks_to_here", "worker")

PICTURE = png()
#: Anybody may ask these: they tell nothing of an account.
PUBLIC = {
    ("GET", path) for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/<path:filename>")
}
#: The same for every account.
SHARED = {("GET", "/v1/models"), ("GET", "/v1/models/<path:model_id>"), ("GET", "/v1/pricing")}
#: Lists and sums of the account's own; beside each, what makes it look for something of another's.
OWN = {
    "/v1/jobs": ("after={job_id}", "metadata[parish]=irlandais"),
    "/v1/files": ("after={file_id}",),
    "/v1/batches": ("after={batch_id}",),
    "/v1/keys": (),
    "/v1/credits": (),
    "/v1/credits/entries": ("job_id={job_id}",),
    "/v1/usage": ("group_by=key",),
    "/v1/usage/events": (),
    "/v1/webhook_endpoints": (),
    "/v1/webhook_deliveries": ("job_id={job_id}", "endpoint_id={endpoint_id}", "after={delivery_id}"),
    "/v1/webhook_secret": (),
}
CONTENT = [{"role": "user", "content": [{"type": "input_image", "file_id": "{file_id}"}]}]
CHAT = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": LINE}}]}]
#: Makers of something new that can name what another account has, and the body that does.
NAMING: dict[str, dict[str, Any]] = {
    "/v1/jobs": {"images": [{"file_id": "{file_id}"}]},
    "/v1/batches": {
        "input_file_id": "{file_id}",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
    "/v1/responses": {"model": MODEL, "input": CONTENT},
    "/v1/ocr": {"model": MODEL, "document": {"type": "file", "file_id": "{file_id}"}},
}
#: Makers that are sent by two accounts under one Idempotency-Key.
ONCE: dict[str, dict[str, Any]] = {
    "/v1/jobs": {"images": [{"base64": LINE.partition(",")[2]}]},
    "/v1/chat/completions": {"model": MODEL, "messages": CHAT},
    "/v1/responses": {
        "model": MODEL,
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": LINE}]}],
    },
    "/v1/ocr": {"model": MODEL, "document": {"type": "image_url", "image_url": LINE}},
}
#: Other makers: what they are told can name nothing of anybody's, or is tried in a test of its own.
MAKERS = {
    ("POST", "/v1/files"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/webhook_endpoints"),
    ("POST", "/v1/webhook_secret/rotate_secret"),
    ("POST", "/v1/webhook_deliveries/replay"),
    ("PUT", "/v1/jobs/<job_id>"),
}
#: Bodies that are judged before the id is looked up.
BODIES: dict[str, dict[str, Any]] = {"PATCH": {"enabled": False}, "POST": {}}
NEEDS_JOBS_TO_LOOK = {("GET", "/v1/webhook_secret")}
_TIMES_OF_USE = {KeyRow.__table__.c.last_used_at}


@pytest.fixture
def stranger(application: FlaskClient) -> Holder:
    return Holder(http=application, key=new_key("stranger"))


@pytest.fixture
def archive(application: FlaskClient) -> Holder:
    return holder_of_everything(application)


def of_one_thing(http: FlaskClient) -> list[tuple[str, str]]:
    """Routes with an id in their path, those that delete last."""
    found = [(method, rule) for method, rule in routes(http) if "<" in rule]
    found = [route for route in found if route not in PUBLIC | SHARED | MAKERS]
    return sorted(found, key=lambda route: (route[0] == "DELETE", route[1].count("/") < 4, route[1]))


def filled(template: str, ids: dict[str, str]) -> str:
    """A route, a query or a body with these ids in the places of their names."""
    return re.sub(r"[<{](\w+_id)[>}]", lambda place: ids[place[1]], template)


def filled_body(body: Any, ids: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: filled_body(value, ids) for name, value in body.items()}
    if isinstance(body, list):
        return [filled_body(value, ids) for value in body]
    return filled(body, ids) if isinstance(body, str) else body


def everything() -> dict[str, list[Any]]:
    """All rows and all stored files; when a key was used is nobody's secret."""
    with transaction() as connection:
        found: dict[str, list[Any]] = {
            table.name: sorted(
                connection.execute(select(*(c for c in table.columns if c not in _TIMES_OF_USE))).all(), key=repr
            )
            for table in Base.metadata.sorted_tables
        }
    folder = Path(settings().storage_url.removeprefix("file://"))
    return found | {"files": sorted((str(path), path.stat().st_size) for path in folder.rglob("*") if path.is_file())}


def error_of(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_every_route_has_its_case(application: FlaskClient) -> None:
    with_ids = set(of_one_thing(application))
    cases = PUBLIC | SHARED | MAKERS | {("GET", rule) for rule in OWN} | {("POST", rule) for rule in {*NAMING, *ONCE}}
    assert set(routes(application)) == with_ids | cases


def test_of_what_another_account_has_every_route_knows_nothing_and_changes_nothing(
    archive: Holder, stranger: Holder
) -> None:
    before = everything()
    for method, rule in of_one_thing(archive.http):
        for ids in (archive.ids, archive.ids | {"job_id": OWN_ID}):
            answer = stranger.ask(method, filled(rule, ids), json=BODIES.get(method))
            assert error_of(answer) == (404, "not_found"), (method, rule)
            named = filled(rule, ids)
            assert not [mark for mark in archive.marks if mark in answer.text.replace(named, "") and mark not in named]
    assert everything() == before
    for method, rule in of_one_thing(archive.http):
        # The same requests find it when its own account asks.
        answer = archive.ask(method, filled(rule, archive.ids), json=BODIES.get(method))
        assert answer.status_code != 404, (method, rule, answer.text)
        answer.close()


def test_lists_and_sums_are_of_the_callers_own(archive: Holder, stranger: Holder) -> None:
    stranger.made("POST", "/v1/jobs", json=ONCE["/v1/jobs"])
    for path, queries in OWN.items():
        asked = ["", *(filled(query, archive.ids) for query in queries)]
        if path != "/v1/credits":
            told = "".join(archive.ask("GET", path, query_string=query).text for query in asked)
            assert any(mark in told for mark in archive.marks), path
        for query in asked:
            answer = stranger.ask("GET", path, query_string=query)
            assert answer.status_code == 200, (path, query, answer.text)
            assert not [mark for mark in archive.marks if mark in answer.text], (path, query)
    assert archive.made("GET", "/v1/credits")["balance"] == 999


def test_another_accounts_files_are_read_by_nobody(archive: Holder, stranger: Holder) -> None:
    before = everything()
    for path, body in NAMING.items():
        answer = stranger.ask("POST", path, json=filled_body(body, archive.ids))
        assert error_of(answer) == (404, "not_found"), path
    assert everything() == before
    for path, body in NAMING.items():
        assert archive.ask("POST", path, json=filled_body(body, archive.ids)).status_code < 300, path


def test_one_name_given_by_two_accounts_is_two_things(archive: Holder, stranger: Holder) -> None:
    for path, body in ONCE.items():
        answers = [
            holder.ask("POST", path, json=body, headers={"Idempotency-Key": path, "Prefer": "wait=30"})
            for holder in (archive, stranger, archive)
        ]
        assert all(answer.status_code in (200, 202) for answer in answers), path
        found = [set(re.findall(r"(?:job|img)_\w{26}", answer.text)) for answer in answers]
        assert found[0] == found[2], path
        assert found[0].isdisjoint(found[1]), path
    theirs = stranger.made("PUT", f"/v1/jobs/{OWN_ID}", json=ONCE["/v1/jobs"])["id"]
    assert theirs != archive.ids["job_id"]
    assert stranger.made("GET", f"/v1/jobs/{OWN_ID}")["id"] == theirs
    assert archive.made("GET", f"/v1/jobs/{OWN_ID}")["id"] == archive.ids["job_id"]


def test_what_an_account_makes_or_replaces_is_its_own(archive: Holder, stranger: Holder) -> None:
    with transaction() as connection:
        connection.execute(Base.metadata.tables["webhook_deliveries"].update().values(status="failed"))
    before = {name: found for name, found in everything().items() if name != "webhook_secrets"}
    secret = archive.made("GET", "/v1/webhook_secret")["secret"]
    for narrower in ({}, {"endpoint_id": archive.ids["endpoint_id"]}):
        replay = {"since": "2000-01-01T00:00:00Z"} | narrower
        assert stranger.made("POST", "/v1/webhook_deliveries/replay", json=replay)["count"] == 0
    stranger.made("POST", "/v1/webhook_secret/rotate_secret", json={"overlap_s": 0})
    assert archive.made("GET", "/v1/webhook_secret")["secret"] == secret
    assert {name: found for name, found in everything().items() if name != "webhook_secrets"} == before
    stranger.made("POST", "/v1/files", data={"file": (io.BytesIO(PICTURE), "x.png"), "purpose": "vision"})
    stranger.made("POST", "/v1/webhook_endpoints", json={"url": "http://127.0.0.1:5000/theirs"})
    stranger.made("POST", "/v1/keys", json={"name": "theirs"})
    for path in ("/v1/files", "/v1/webhook_endpoints", "/v1/keys"):
        assert len(archive.made("GET", path)["data"]) == len(stranger.made("GET", path)["data"]) - (path == "/v1/keys")


def test_without_a_key_and_with_too_small_a_scope_every_route_is_closed(archive: Holder) -> None:
    keys = {
        scope: new_key("archive", KeyTerms(scopes=scopes))
        for scope, scopes in {
            Scope.READ: frozenset[Scope](),
            Scope.JOBS: frozenset({Scope.READ}),
            Scope.ADMIN: frozenset({Scope.JOBS}),
        }.items()
    }
    wrong = ("", f"Bearer {archive.key}x")
    before = everything()
    for method, rule in routes(archive.http):
        if (method, rule) in PUBLIC:
            continue
        path = filled(rule, archive.ids).replace("<path:model_id>", MODEL)
        for header in wrong:
            answer = archive.http.open(path, method=method, headers={"Authorization": header}, json=BODIES.get(method))
            assert error_of(answer) == (401, "invalid_api_key"), (method, rule, header)
        looks = method == "GET" and (method, rule) not in NEEDS_JOBS_TO_LOOK
        needed = Scope.ADMIN if rule.startswith("/v1/keys") else Scope.READ if looks else Scope.JOBS
        holder = Holder(http=archive.http, key=keys[needed])
        answer = holder.ask(method, path, json=BODIES.get(method))
        assert error_of(answer) == (403, "missing_scope"), (method, rule)
    assert everything() == before


def test_api_keys_are_stored_as_hashes(archive: Holder) -> None:
    assert archive.key not in repr(everything())
    digest = hashlib.sha256(archive.key.encode()).digest()
    assert rows("SELECT count(*) FROM api_keys WHERE sha256 = :digest", digest=digest) == [(1,)]
