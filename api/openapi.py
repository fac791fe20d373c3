"""What type hints cannot say in the description of the API: the three forms of a submission."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import OpenAPI

from api.schemas import JobOptions, JobSubmission

_REF = "#/components/schemas/{model}"
_FILE = {"type": "string", "format": "binary"}


def describe_submission(app: OpenAPI) -> None:
    """Add the bodies and query parameters of `POST /v1/jobs` to the application's description."""
    description = app.api_doc
    options = JobOptions.model_json_schema(ref_template=_REF)
    submission = JobSubmission.model_json_schema(ref_template=_REF)
    description["components"]["schemas"] |= submission.pop("$defs") | {"JobSubmission": submission}
    operation = description["paths"]["/v1/jobs"]["post"]
    operation["requestBody"] = {"required": True, "content": _bodies(options)}
    operation["parameters"] = [
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


def _bodies(options: dict[str, Any]) -> dict[str, Any]:
    files = {"image": {"type": "array", "items": _FILE, "minItems": 1}}
    return {
        "application/json": {"schema": {"$ref": _REF.format(model="JobSubmission")}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": files | options["properties"], "required": ["image"]}
        },
        "image/*": {"schema": _FILE},
    }
