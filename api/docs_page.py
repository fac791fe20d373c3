"""The description of the API as a page for browsers: Swagger UI, from here and not from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import flask_openapi3_swagger
from flask import Blueprint, Response

_SCRIPT = """
window.onload = () => SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});
"""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>inkqueue</title>
<link rel="icon" href="docs/images/swagger.svg">
<link rel="stylesheet" href="docs/css/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/js/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
#: Only these scripts run, so that nothing that a description or an answer says becomes one. Swagger UI writes style
#: attributes, and its pictures are data URLs.
_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{_HASH}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

docs_page = Blueprint(
    "docs",
    __name__,
    static_folder=Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger",
    static_url_path="/docs",
)


@docs_page.get("/docs")
def docs() -> Response:
    """The page; its addresses are relative, for a service behind a path of a proxy."""
    return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})
