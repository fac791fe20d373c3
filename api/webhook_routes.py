"""The paths of webhooks: endpoints, secrets, and the log of deliveries."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api.auth import authenticate, caller, require
from api.problems import ERROR_RESPONSES
from api.webhook_schemas import (
    CreatedEndpointBody,
    DeletedEndpointBody,
    DeliveryBody,
    DeliveryListBody,
    DeliveryPageQuery,
    DeliveryPath,
    EndpointBody,
    EndpointChangeBody,
    EndpointListBody,
    EndpointPath,
    NewEndpointBody,
    ReplayBody,
    ReplayedBody,
    RotationBody,
    SecretBody,
)
from core import webhook_deliveries, webhook_endpoints
from core.accounts import Scope
from core.database import transaction
from core.webhook_deliveries import DeliveryFilter
from core.webhook_endpoints import NewEndpoint
from core.webhook_events import EventType
from core.webhook_secrets import ensure_secret, rotate_secret

webhook_routes = APIBlueprint(
    "webhooks",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="Webhooks")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
webhook_routes.before_request(authenticate)


@webhook_routes.post("/webhook_endpoints", responses={201: CreatedEndpointBody})
def create_endpoint(body: NewEndpointBody) -> Response:
    """Have the events of all your jobs and of your credits sent to an address; the secret is shown this once."""
    new = NewEndpoint(url=body.url, events=[EventType(event) for event in body.events], include_text=body.include_text)
    with transaction() as connection:
        endpoint, secret = webhook_endpoints.create_endpoint(connection, caller(), new)
    created = CreatedEndpointBody(**EndpointBody.of(endpoint).model_dump(), secret=secret)
    return _json(created, HTTPStatus.CREATED)


@webhook_routes.get("/webhook_endpoints", responses={200: EndpointListBody})
def list_endpoints() -> Response:
    """List your endpoints, oldest first."""
    with transaction() as connection:
        found = webhook_endpoints.list_endpoints(connection, caller())
    return _json(EndpointListBody(data=[EndpointBody.of(endpoint) for endpoint in found]))


@webhook_routes.get("/webhook_endpoints/<endpoint_id>", responses={200: EndpointBody})
def get_endpoint(path: EndpointPath) -> Response:
    """Look at an endpoint: whether it fails, and why it was disabled."""
    with transaction() as connection:
        return _json(EndpointBody.of(webhook_endpoints.get_endpoint(connection, caller(), path.endpoint_id)))


@webhook_routes.patch("/webhook_endpoints/<endpoint_id>", responses={200: EndpointBody})
def change_endpoint(path: EndpointPath, body: EndpointChangeBody) -> Response:
    """Change an endpoint's address or events; enable it again after it was disabled."""
    changes = body.model_dump(exclude={"enabled"}, exclude_none=True)
    with transaction() as connection:
        changed = webhook_endpoints.change_endpoint(
            connection, caller(), path.endpoint_id, changes=changes, enabled=body.enabled
        )
    return _json(EndpointBody.of(changed))


@webhook_routes.delete("/webhook_endpoints/<endpoint_id>", responses={200: DeletedEndpointBody})
def delete_endpoint(path: EndpointPath) -> Response:
    """Delete an endpoint; what has not been delivered to it is given up."""
    with transaction() as connection:
        webhook_endpoints.delete_endpoint(connection, caller(), path.endpoint_id)
    return _json(DeletedEndpointBody(id=path.endpoint_id))


@webhook_routes.post("/webhook_endpoints/<endpoint_id>/rotate_secret", responses={200: SecretBody})
def rotate_endpoint_secret(path: EndpointPath, body: RotationBody) -> Response:
    """Replace an endpoint's secret; the old one signs beside the new one for a day, or as long as you say."""
    with transaction() as connection:
        webhook_endpoints.get_endpoint(connection, caller(), path.endpoint_id)
        secret = rotate_secret(connection, path.endpoint_id, overlap=timedelta(seconds=body.overlap_s))
    return _json(SecretBody(secret=secret))


@webhook_routes.post("/webhook_endpoints/<endpoint_id>/ping", responses={202: DeliveryBody})
def ping_endpoint(path: EndpointPath) -> Response:
    """Send a trial event, `endpoint.ping`; the delivery that comes back tells how it went."""
    with transaction() as connection:
        endpoint = webhook_endpoints.get_endpoint(connection, caller(), path.endpoint_id)
        sent = webhook_deliveries.ping(connection, caller(), endpoint_id=endpoint.id, url=endpoint.url)
    return _json(DeliveryBody.of(sent), HTTPStatus.ACCEPTED)


@webhook_routes.get("/webhook_secret", responses={200: SecretBody})
def get_default_secret() -> Response:
    """Get the secret that signs the webhooks of single jobs; it is made when it is first asked for."""
    # Who holds it can forge events: looking is not enough.
    require(Scope.JOBS)
    with transaction() as connection:
        return _json(SecretBody(secret=ensure_secret(connection, caller().account_id)))


@webhook_routes.post("/webhook_secret/rotate_secret", responses={200: SecretBody})
def rotate_default_secret(body: RotationBody) -> Response:
    """Replace the secret that signs the webhooks of single jobs."""
    with transaction() as connection:
        secret = rotate_secret(connection, caller().account_id, overlap=timedelta(seconds=body.overlap_s))
    return _json(SecretBody(secret=secret))


@webhook_routes.get("/webhook_deliveries", responses={200: DeliveryListBody})
def list_deliveries(query: DeliveryPageQuery) -> Response:
    """List what was sent and what is still to be sent, newest first, each with its latest attempts."""
    wanted = DeliveryFilter(
        status=query.status,
        endpoint_id=query.endpoint_id,
        job_id=query.job_id,
        event=query.event,
        since=query.since,
    )
    with transaction() as connection:
        found = webhook_deliveries.list_deliveries(
            connection, caller(), wanted, before=query.after, most=query.limit + 1
        )
    return _json(DeliveryListBody.cut(found, limit=query.limit, render=DeliveryBody.of, cursor=lambda sent: sent.id))


@webhook_routes.get("/webhook_deliveries/<delivery_id>", responses={200: DeliveryBody})
def get_delivery(path: DeliveryPath) -> Response:
    """Look at a delivery with its latest attempts."""
    with transaction() as connection:
        return _json(DeliveryBody.of(webhook_deliveries.get_delivery(connection, caller(), path.delivery_id)))


@webhook_routes.post("/webhook_deliveries/<delivery_id>/resend", responses={202: DeliveryBody})
def resend_delivery(path: DeliveryPath) -> Response:
    """Send a delivery again now, under the same `webhook-id`, whatever became of it."""
    with transaction() as connection:
        sent = webhook_deliveries.resend(connection, caller(), path.delivery_id)
    return _json(DeliveryBody.of(sent), HTTPStatus.ACCEPTED)


@webhook_routes.post("/webhook_deliveries/replay", responses={202: ReplayedBody})
def replay_deliveries(body: ReplayBody) -> Response:
    """Send all deliveries again that failed since a time, of one endpoint or of all."""
    with transaction() as connection:
        count = webhook_deliveries.replay(connection, caller(), since=body.since, endpoint_id=body.endpoint_id)
    return _json(ReplayedBody(count=count), HTTPStatus.ACCEPTED)


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body.model_dump_json(), status=status, mimetype="application/json")
