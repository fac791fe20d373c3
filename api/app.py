"""The API: one Flask application out of its routes, its errors and its description."""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3 import Info, OpenAPI
from pydantic import ValidationError

from api.account_routes import account_routes
from api.batch_routes import batch_routes
from api.bodies import register_bodies
from api.chat_routes import chat_routes
from api.chat_schemas import ChatRequest
from api.docs_page import docs_page
from api.event_routes import event_routes
from api.file_routes import file_routes
from api.health_routes import health_routes
from api.job_routes import job_routes
from api.key_routes import key_routes
from api.model_routes import model_routes
from api.ocr_routes import ocr_routes
from api.ocr_schemas import OcrRequest
from api.openapi import describe_json, describe_stream, describe_submission, describe_upload
from api.problems import malformed, register_error_handlers
from api.rate_limits import register_rate_limit_headers
from api.request_log import register_request_log
from api.response_routes import response_routes
from api.response_schemas import ResponseRequest
from api.schemas import ErrorBody
from api.security_headers import register_security_headers
from api.usage_routes import usage_routes
from api.webhook_routes import webhook_routes
from core.logs import configure_logging
from core.settings import settings
from core.tracing import configure_tracing

_VERSION = "0.1.0"


def create_app() -> OpenAPI:
    """Build the application; gunicorn calls this once a process."""
    configure_logging()
    configure_tracing("api")
    app = OpenAPI(
        __name__,
        info=Info(title="inkqueue", version=_VERSION, summary="Handwriting in, text out: jobs, results, credits."),
        security_schemes={"api_key": {"type": "http", "scheme": "bearer", "bearerFormat": "ink_..."}},
        validation_error_status=400,
        validation_error_model=ErrorBody,
        validation_error_callback=_refuse,
        doc_ui=False,
        static_folder=None,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings().max_request_bytes
    # A job may hold a thousand files; Flask's own limits guard against forms of many small fields.
    app.config["MAX_FORM_PARTS"] = 2000
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    register_request_log(app)
    register_rate_limit_headers(app)
    register_bodies(app)
    register_security_headers(app)
    register_error_handlers(app)
    for routes in (
        job_routes,
        event_routes,
        webhook_routes,
        chat_routes,
        response_routes,
        ocr_routes,
        file_routes,
        batch_routes,
        model_routes,
        account_routes,
        usage_routes,
        key_routes,
        health_routes,
    ):
        app.register_api(routes)
    describe_submission(app)
    describe_json(app, "/v1/chat/completions", ChatRequest)
    describe_json(app, "/v1/responses", ResponseRequest)
    describe_json(app, "/v1/ocr", OcrRequest)
    describe_upload(app, "/v1/files")
    for path, method in (
        ("/v1/chat/completions", "post"),
        ("/v1/responses", "post"),
        ("/v1/responses/{response_id}", "get"),
    ):
        describe_stream(app, path, method)
    app.add_url_rule("/openapi.json", "openapi_json", lambda: _openapi(app))
    app.register_blueprint(docs_page)
    return app


def _refuse(exc: ValidationError) -> Response:
    raise malformed(exc) from exc


def _openapi(app: OpenAPI) -> Response:
    return jsonify(app.api_doc)
