"""The paths of batches."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api.auth import authenticate, caller
from api.batch_schemas import BatchBody, BatchForm, BatchListBody, BatchPageQuery, BatchPath
from api.problems import ERROR_RESPONSES, speak_as_openai
from core import batches
from core.batches import NewBatch
from core.database import transaction

batch_routes = APIBlueprint(
    "batches",
    __name__,
    url_prefix="/v1/batches",
    abp_tags=[Tag(name="OpenAI")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
batch_routes.before_request(speak_as_openai)
batch_routes.before_request(authenticate)


@batch_routes.post("", responses={200: BatchBody})
def create_batch(body: BatchForm) -> Response:
    """Have a file of requests read when there is time, at the priority and price of bulk, within 24 hours.

    Each line of the file is `{"custom_id", "method": "POST", "url", "body"}`, up to 50,000 of them; what is read comes
    as an output file, what is not as an error file.
    """
    with transaction() as connection:
        batch = batches.create(
            connection,
            caller(),
            NewBatch(
                endpoint=body.endpoint,
                input_file_id=body.input_file_id,
                metadata=body.metadata or {},
                output_expires_after_s=body.output_expires_after.seconds if body.output_expires_after else None,
            ),
        )
    return _json(BatchBody.of(batch))


@batch_routes.get("", responses={200: BatchListBody})
def list_own_batches(query: BatchPageQuery) -> Response:
    """List your batches, newest first."""
    with transaction() as connection:
        found = batches.list_batches(connection, caller(), after=query.after, most=query.limit + 1)
    page = [BatchBody.of(batch) for batch in found[: query.limit]]
    return _json(
        BatchListBody(
            data=page,
            has_more=len(found) > query.limit,
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
        )
    )


@batch_routes.get("/<batch_id>", responses={200: BatchBody})
def get_batch(path: BatchPath) -> Response:
    """Look at a batch."""
    with transaction() as connection:
        return _json(BatchBody.of(batches.find(connection, caller().account_id, path.batch_id)))


@batch_routes.post("/<batch_id>/cancel", responses={200: BatchBody})
def cancel_batch(path: BatchPath) -> Response:
    """Give a batch up: what has not been read ends, free; what was read until now is written into its files."""
    with transaction() as connection:
        return _json(BatchBody.of(batches.cancel(connection, caller(), path.batch_id)))


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
