"""The paths of models."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authenticate
from api.model_choice import unusable_model
from api.model_schemas import ModelBody, ModelListBody
from api.problems import ERROR_RESPONSES
from api.request_schemas import ModelPath
from core.catalogue import catalogue, known_as, served_as
from core.database import transaction
from core.leases import served_models

model_routes = APIBlueprint(
    "models",
    __name__,
    url_prefix="/v1/models",
    abp_tags=[Tag(name="Models")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
model_routes.before_request(authenticate)


@model_routes.get("", responses={200: ModelListBody})
def list_models() -> Response:
    """List the models: those that workers serve now, then the others that the service knows."""
    with transaction() as connection:
        served = served_models(connection)
    loaded = {known_as(card["name"]) for card in served}
    models = [ModelBody.of(card["name"], card) for card in served]
    models += [ModelBody.of(model_id, None) for model_id in catalogue() if model_id not in loaded]
    return _json(ModelListBody(data=models))


@model_routes.get("/<path:model_id>", responses={200: ModelBody})
def get_model(path: ModelPath) -> Response:
    """Look at one model, by the name under which workers serve it, its id, or its short id."""
    with transaction() as connection:
        served = {card["name"]: card for card in served_models(connection)}
    name = served_as(path.model_id, served)
    if name is not None:
        return _json(ModelBody.of(name, served[name]))
    if known_as(path.model_id) not in catalogue():
        raise unusable_model(path.model_id, sorted(served))
    return _json(ModelBody.of(known_as(path.model_id), None))


def _json(body: ModelBody | ModelListBody) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
