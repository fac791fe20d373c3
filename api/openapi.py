"""What type hints cannot say in the description of the API: bodies that the paths read themselves."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import OpenAPI
from pydantic import BaseModel

from api.event_responses import EVENT_STREAM
from api.request_schemas import JobOptions, JobSubmission

_REF = "#/components/schemas/{model}"
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Sent again within 24 hours with the same content, it answers with the same job, as it is now.",
}
_FILE = {"type": "string", "format": "binary"}


def describe_submission(app: OpenAPI) -> None:
    """Add the bodies and query parameters of `POST /v1/jobs`, and of `PUT`, to the application's description."""
    description = app.api_doc
    options = JobOptions.model_json_schema(ref_template=_REF)
    submission = JobSubmission.model_json_schema(ref_template=_REF)
    description["components"]["schemas"] |= submission.pop("$defs") | {"JobSubmission": submission}
    put = description["paths"]["/v1/jobs/{job_id}"]["put"]
    operation = description["paths"]["/v1/jobs"]["post"]
    put["requestBody"] = operation["requestBody"] = {"required": True, "content": _bodies(options)}
    own = [parameter for parameter in operation.get("parameters", []) if parameter["name"] == "dry_run"]
    of_raw_images = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": schema,
            "description": f"With a raw image body: {schema.get('description', name)}",
        }
        for name, schema in options["properties"].items()
        if name not in ("metadata", "webhook")
    ]
    operation["parameters"] = [*own, _IDEMPOTENCY_KEY, *of_raw_images]
    put["parameters"] = [*put.get("parameters", []), *of_raw_images]


def describe_json(app: OpenAPI, path: str, model: type[BaseModel]) -> None:
    """Add the JSON body and the `Idempotency-Key` of a `POST` that reads them itself to the description."""
    schema = model.model_json_schema(ref_template=_REF)
    app.api_doc["components"]["schemas"] |= schema.pop("$defs", {}) | {model.__name__: schema}
    operation = app.api_doc["paths"][path]["post"]
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    operation["requestBody"] = {"required": True, "content": content}
    operation["parameters"] = [*operation.get("parameters", []), _IDEMPOTENCY_KEY]


def describe_stream(app: OpenAPI, path: str, method: str) -> None:
    """Add to the description that what this path answers also comes event by event, where that is asked for."""
    app.api_doc["paths"][path][method]["responses"]["200"]["content"] |= EVENT_STREAM


def describe_upload(app: OpenAPI, path: str) -> None:
    """Add the form of `POST /v1/files` to the application's description."""
    fields = {
        "file": _FILE,
        "purpose": {"type": "string", "enum": ["batch", "vision", "user_data"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    }
    form = {"schema": {"type": "object", "properties": fields, "required": ["file", "purpose"]}}
    app.api_doc["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"multipart/form-data": form}}


def _bodies(options: dict[str, Any]) -> dict[str, Any]:
    files = {"image": {"type": "array", "items": _FILE, "minItems": 1}}
    return {
        "application/json": {"schema": {"$ref": _REF.format(model="JobSubmission")}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": files | options["properties"], "required": ["image"]}
        },
        "image/*": {"schema": _FILE},
    }
