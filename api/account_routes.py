"""The paths of what an account can use and spend: models and credits."""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authenticate, caller
from api.credit_schemas import PricingBody
from api.problems import ERROR_RESPONSES
from api.request_schemas import ModelPath
from api.schemas import CreditsBody, ModelBody, ModelListBody
from core import credits
from core.database import transaction
from core.errors import ModelNotFound
from core.leases import served_models
from core.prices import price_list
from core.settings import settings

account_routes = APIBlueprint(
    "account", __name__, url_prefix="/v1", abp_security=[{"api_key": []}], abp_responses=ERROR_RESPONSES
)
account_routes.before_request(authenticate)


@account_routes.get("/models", tags=[Tag(name="Models")], responses={200: ModelListBody})
def list_models() -> Response:
    """List the models that workers serve now."""
    with transaction() as connection:
        served = served_models(connection)
    return jsonify(ModelListBody(data=[ModelBody.of(card) for card in served]).model_dump())


@account_routes.get("/models/<path:model_id>", tags=[Tag(name="Models")], responses={200: ModelBody})
def get_model(path: ModelPath) -> Response:
    """Look at one model that workers serve now."""
    with transaction() as connection:
        served = {card["name"]: card for card in served_models(connection)}
    if path.model_id not in served:
        raise ModelNotFound(f"no worker serves a model {path.model_id}")
    return jsonify(ModelBody.of(served[path.model_id]).model_dump())


@account_routes.get("/pricing", tags=[Tag(name="Credits")], responses={200: PricingBody})
def get_pricing() -> Response:
    """Look at what a line costs, by model, mode and priority."""
    prices = price_list()
    models = dict.fromkeys((*settings().models, *prices.models))
    return jsonify(PricingBody.of(prices, models).model_dump())


@account_routes.get("/credits", tags=[Tag(name="Credits")], responses={200: CreditsBody})
def get_credits() -> Response:
    """Look at your credits."""
    with transaction() as connection:
        return jsonify(CreditsBody.of(credits.credit(connection, caller().account_id)).model_dump())
