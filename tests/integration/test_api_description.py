"""Requests drawn from the API's own description: every answer is one that the description promises."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.domain import MODEL
from tests.holdings import LINE, Holder, holder_of_everything

pytestmark = pytest.mark.usefixtures("webhooks_to_here", "worker")

#: Requests for each operation; `make fuzz` sends more, and other ones each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 3,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    negative_data_rejection,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


#: Requests that no drawing comes upon: whole pictures, read at once or in a stream.
_IMAGE = {"type": "image_url", "image_url": {"url": LINE}}
_CHAT = {"model": MODEL, "messages": [{"role": "user", "content": [_IMAGE]}]}
_INPUT = [{"role": "user", "content": [{"type": "input_image", "image_url": LINE}]}]
_RESPONSE = {"model": MODEL, "input": _INPUT}
BODIES: dict[str, list[dict[str, Any]]] = {
    "POST /v1/chat/completions": [_CHAT, _CHAT | {"stream": True}, _CHAT | {"logprobs": True, "top_logprobs": 2}],
    "POST /v1/responses": [_RESPONSE, _RESPONSE | {"stream": True}, _RESPONSE | {"background": True}],
    "POST /v1/ocr": [{"model": MODEL, "document": _IMAGE | {"image_url": LINE}}],
    "POST /v1/jobs": [{"images": [{"url": LINE}], "metadata": {"parish": "Mur"}, "deadline_s": 60}],
    "PUT /v1/jobs/{job_id}": [{"images": [{"url": LINE}]}],
}


@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_every_answer_is_one_that_the_description_promises(application: FlaskClient) -> None:
    holder = holder_of_everything(application)
    description = schemathesis.openapi.from_wsgi("/openapi.json", application.application)
    operations = [found.ok() for found in description.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 40
    wrong: dict[str, str] = {}
    # Deletions last: until then every id leads to something.
    for operation in sorted(operations, key=lambda operation: (operation.method == "delete", operation.path)):
        try:
            _tried(operation, holder)
        except (FailureGroup, ExceptionGroup, AssertionError) as exc:
            wrong[operation.label] = str(exc)
    assert not wrong, "\n".join(wrong.values())


def _tried(operation: APIOperation[Any, Any, Any, Any], holder: Holder) -> None:
    """Send requests that the description allows and others that it does not, to things that there are and are not."""
    real = {name.name: holder.ids[name.name] for name in operation.path_parameters if name.name in holder.ids}
    fixed: list[dict[str, Any]] = [{}, {"path_parameters": real}] if real else [{}]
    strategies = [operation.as_strategy(mode, **more) for mode in GenerationMode for more in fixed]

    @PROFILE
    @given(case=st.one_of(strategies))
    def tried(case: schemathesis.Case[Any]) -> None:
        _check(case, holder)

    tried()
    for body in BODIES.get(operation.label, []):
        path = {"job_id": "mur-1"} if real else {}
        _check(operation.Case(body=body, media_type="application/json", path_parameters=path), holder)


def _check(case: schemathesis.Case[Any], holder: Holder) -> None:
    response = case.call(headers={"Authorization": f"Bearer {holder.key}"})
    case.validate_response(response, checks=CHECKS)
    if response.status_code >= 400:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "code", "param"}, response.text
        assert error["message"] and error["type"] and error["code"], response.text
