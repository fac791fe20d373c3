"""The paths of those who run the service: is it alive, is it ready, what does it count."""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.problems import ERROR_RESPONSES
from api.queue_metrics import metrics_registry
from api.schemas import AliveBody, ReadyBody
from core.errors import NotFound
from core.health import degraded_parts
from core.settings import settings

health_routes = APIBlueprint("health", __name__, abp_tags=[Tag(name="Health")], abp_responses=ERROR_RESPONSES)


@health_routes.get("/livez", responses={200: AliveBody})
def livez() -> Response:
    """Whether this process answers at all."""
    return jsonify(AliveBody().model_dump())


@health_routes.get("/readyz", responses={200: ReadyBody})
def readyz() -> Response:
    """Whether a submission would be stored now (else 503), and what else is down."""
    return jsonify({"status": "ready", "degraded": degraded_parts()})


@health_routes.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
def metrics() -> Response:
    """Figures for Prometheus, where the operator publishes them (`INKQUEUE_METRICS`)."""
    if not settings().metrics:
        raise NotFound("metrics are not published here; see INKQUEUE_METRICS")
    return Response(generate_latest(metrics_registry()), content_type=CONTENT_TYPE_LATEST)
