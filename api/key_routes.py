"""The paths of an account's own API keys."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api.auth import authenticate_admin, caller
from api.key_schemas import KeyBody, KeyListBody, KeyOptions, KeyPath, RotationQuery
from api.problems import ERROR_RESPONSES
from core import accounts, keys
from core.database import transaction

key_routes = APIBlueprint(
    "keys",
    __name__,
    url_prefix="/v1/keys",
    abp_tags=[Tag(name="Keys")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
key_routes.before_request(authenticate_admin)


@key_routes.post("", responses={201: KeyBody})
def create_key(body: KeyOptions) -> Response:
    """Make a key; its secret is in this answer and never again."""
    with transaction() as connection:
        secret = accounts.create_key(connection, account_id=caller().account_id, name=body.name, terms=body.terms)
        made = keys.key_of_secret(connection, secret)
    return _json(KeyBody.of(made, secret=secret), HTTPStatus.CREATED)


@key_routes.get("", responses={200: KeyListBody})
def list_keys() -> Response:
    """List your keys, revoked ones too, without their secrets."""
    with transaction() as connection:
        return _json(KeyListBody(data=[KeyBody.of(key) for key in keys.list_own(connection, caller().account_id)]))


@key_routes.get("/<key_id>", responses={200: KeyBody})
def get_key(path: KeyPath) -> Response:
    """Look at one of your keys."""
    with transaction() as connection:
        return _json(KeyBody.of(keys.own_key(connection, caller().account_id, path.key_id)))


@key_routes.delete("/<key_id>", responses={200: KeyBody})
def revoke_key(path: KeyPath) -> Response:
    """Revoke a key: it is refused from now on, in every process; jobs that it has submitted go on."""
    with transaction() as connection:
        return _json(KeyBody.of(keys.revoke_own(connection, caller().account_id, path.key_id)))


@key_routes.post("/<key_id>/rotate", responses={200: KeyBody})
def rotate_key(path: KeyPath, query: RotationQuery) -> Response:
    """Give a key a new secret; the old one stops at once, or after `overlap_s`. Its cap and its limits stay."""
    overlap = timedelta(seconds=query.overlap_s)
    with transaction() as connection:
        secret = keys.rotate_own(connection, caller().account_id, path.key_id, overlap=overlap)
        return _json(KeyBody.of(keys.own_key(connection, caller().account_id, path.key_id), secret=secret))


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body.model_dump_json(), status=status, mimetype="application/json")
