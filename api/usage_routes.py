"""The paths of reports: the ledger, and what was charged."""

from __future__ import annotations

import csv
import io
import json

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api.auth import authenticate, caller
from api.credit_schemas import EntryBody
from api.problems import ERROR_RESPONSES
from api.usage_schemas import (
    EntryListBody,
    EntryPageQuery,
    UsageEventBody,
    UsageEventQuery,
    UsageQuery,
    UsageReportBody,
    UsageRowBody,
)
from core.database import transaction
from core.ledger_views import list_entries
from core.usage import GroupBy, UsageRow, usage, usage_events

usage_routes = APIBlueprint(
    "usage",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="Credits")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
usage_routes.before_request(authenticate)


@usage_routes.get("/credits/entries", responses={200: EntryListBody})
def list_credit_entries(query: EntryPageQuery) -> Response:
    """List your ledger, newest first: every movement of credits, and which grants paid."""
    with transaction() as connection:
        found = list_entries(
            connection, caller().account_id, before=query.after, most=query.limit + 1, job_id=query.job_id
        )
    return _json(EntryListBody.cut(found, limit=query.limit, render=EntryBody.of, cursor=lambda entry: entry.id))


@usage_routes.get("/usage", responses={200: UsageReportBody})
def get_usage(query: UsageQuery) -> Response:
    """Get what you were charged, summed by day, model or key, as JSON or CSV; the sums are the ledger's."""
    with transaction() as connection:
        found = usage(
            connection,
            caller().account_id,
            since=query.since,
            until=query.until,
            group_by=GroupBy(query.group_by),
        )
    rows = [UsageRowBody.of(row) for row in found]
    if query.format == "csv":
        return _csv(query.group_by, rows)
    total = UsageRow(
        group="total",
        images=sum(row.images for row in found),
        lines=sum(row.lines for row in found),
        charged_micro=sum(row.charged_micro for row in found),
    )
    return _json(UsageReportBody(group_by=query.group_by, data=rows, total=UsageRowBody.of(total)))


@usage_routes.get(
    "/usage/events",
    responses={200: {"content": {"application/cloudevents-batch+json": {"schema": {"type": "array", "items": {}}}}}},
)
def list_usage_events(query: UsageEventQuery) -> Response:
    """Get single charges as CloudEvents, oldest first, for a billing system."""
    with transaction() as connection:
        found = usage_events(
            connection,
            caller().account_id,
            since=query.since,
            until=query.until,
            after=query.after,
            most=query.limit,
        )
    events = [UsageEventBody.of(event, caller().account_id).model_dump(mode="json") for event in found]
    return Response(json.dumps(events), mimetype="application/cloudevents-batch+json")


def _csv(group_by: str, rows: list[UsageRowBody]) -> Response:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([group_by, "images", "lines", "credits"])
    table.writerows([row.group, row.images, row.lines, row.credits] for row in rows)
    return Response(text.getvalue(), mimetype="text/csv")


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
