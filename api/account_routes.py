"""The paths of what an account can spend."""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authenticate, caller
from api.credit_schemas import PricingBody
from api.problems import ERROR_RESPONSES
from api.schemas import CreditsBody
from core import credits
from core.database import transaction
from core.prices import price_list
from core.settings import settings

account_routes = APIBlueprint(
    "account", __name__, url_prefix="/v1", abp_security=[{"api_key": []}], abp_responses=ERROR_RESPONSES
)
account_routes.before_request(authenticate)


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
