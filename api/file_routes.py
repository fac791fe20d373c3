"""The paths of files."""

from __future__ import annotations

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, ValidationError

from api.auth import authenticate, caller
from api.file_schemas import DeletedFileBody, FileBody, FileForm, FileListBody, FilePageQuery, FilePath
from api.problems import ERROR_RESPONSES, malformed, speak_as_openai
from core import files
from core.database import transaction
from core.errors import MalformedRequest

_CONTENT = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

file_routes = APIBlueprint(
    "files",
    __name__,
    url_prefix="/v1/files",
    abp_tags=[Tag(name="OpenAI")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
file_routes.before_request(speak_as_openai)
file_routes.before_request(authenticate)


@file_routes.post("", responses={200: FileBody})
def upload_file() -> Response:
    """Upload a file: a form with `file` and its `purpose`, `batch` for a batch's requests or `vision` for an image."""
    sent = request.files.get("file")
    if sent is None:
        raise MalformedRequest("there is no file in the field `file`", param="file")
    try:
        form = FileForm(
            purpose=request.form.get("purpose"),
            filename=sent.filename or "",
            expires_after_anchor=request.form.get("expires_after[anchor]"),
            expires_after_s=request.form.get("expires_after[seconds]"),
        )
    except ValidationError as exc:
        raise malformed(exc) from exc
    stored = files.store(
        caller().account_id,
        sent.stream,
        purpose=form.purpose,
        filename=form.filename,
        expires_after_s=form.expires_after_s,
    )
    return _json(FileBody.of(stored))


@file_routes.get("", responses={200: FileListBody})
def list_own_files(query: FilePageQuery) -> Response:
    """List your files, newest first."""
    with transaction() as connection:
        found = files.list_files(
            connection,
            caller(),
            purpose=query.purpose,
            after=query.after,
            most=query.limit + 1,
            newest_first=query.order == "desc",
        )
    page = [FileBody.of(file) for file in found[: query.limit]]
    return _json(
        FileListBody(
            data=page,
            has_more=len(found) > query.limit,
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
        )
    )


@file_routes.get("/<file_id>", responses={200: FileBody})
def get_file(path: FilePath) -> Response:
    """Look at a file."""
    with transaction() as connection:
        return _json(FileBody.of(files.find(connection, caller().account_id, path.file_id)))


@file_routes.get("/<file_id>/content", responses={200: {"content": _CONTENT}})
def get_content(path: FilePath) -> Response:
    """Download a file."""
    with transaction() as connection:
        found = files.find(connection, caller().account_id, path.file_id)
    return Response(
        files.content(found.id),
        mimetype="application/octet-stream",
        headers={"Content-Length": str(found.size_bytes)},
    )


@file_routes.delete("/<file_id>", responses={200: DeletedFileBody})
def delete_file(path: FilePath) -> Response:
    """Delete a file for good."""
    files.remove(caller(), path.file_id)
    return _json(DeletedFileBody(id=path.file_id))


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
