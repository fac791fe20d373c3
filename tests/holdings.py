"""An account that has something of every sort that has an id, and who asks for it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.openai_schemas import openai_id
from tests.domain import new_key, png, rows
from tests.openai_clients import data_url
from tests.waiting import wait_until

LINE = data_url(png())
#: What the account calls its job.
OWN_ID = "register-7"


@dataclass(kw_only=True)
class Holder:
    """An account, and the ids of all that it has."""

    http: FlaskClient
    key: str
    #: By the name that routes give them.
    ids: dict[str, str] = field(default_factory=dict)
    #: Whatever would betray it in an answer.
    marks: set[str] = field(default_factory=set)

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return self.http.open(path, method=method, headers=headers, **options)

    def made(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.ask(method, path, **options)
        assert answer.status_code < 300, answer.text
        return dict(answer.get_json())


def routes(http: FlaskClient) -> Iterator[tuple[str, str]]:
    """Every method and rule that the application has."""
    for rule in http.application.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, rule.rule


def holder_of_everything(http: FlaskClient) -> Holder:
    """An account that has one thing of every sort; a worker must be at work, and webhooks allowed."""
    holder = Holder(http=http, key=new_key("archive"))
    endpoint = holder.made("POST", "/v1/webhook_endpoints", json={"url": "http://127.0.0.1:5000/hook"})
    job = {"images": [{"base64": LINE.partition(",")[2], "key": "baptism-1"}], "metadata": {"parish": "irlandais"}}
    job_id = holder.made("PUT", f"/v1/jobs/{OWN_ID}", json=job)["id"]
    wait_until(lambda: holder.made("GET", f"/v1/jobs/{job_id}")["status"] == "succeeded")
    file = {"file": (io.BytesIO(png()), "baptism-2.png"), "purpose": "batch"}
    file_id = holder.made("POST", "/v1/files", data=file)["id"]
    batch = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch_id = holder.made("POST", "/v1/batches", json=batch)["id"]
    secret = holder.made("GET", "/v1/webhook_secret")["secret"]
    ((delivery_id,),) = rows("SELECT id FROM webhook_deliveries WHERE event = 'job.completed'")
    ((account_id, key_id, image_id),) = rows(
        "SELECT jobs.account_id, key_id, images.id FROM jobs JOIN images ON job_id = jobs.id"
    )
    holder.ids = {
        "job_id": job_id,
        "response_id": openai_id("resp_", job_id),
        "file_id": file_id,
        "batch_id": batch_id,
        "key_id": str(key_id),
        "endpoint_id": endpoint["id"],
        "delivery_id": str(delivery_id),
    }
    holder.marks = {*holder.ids.values(), str(account_id), str(image_id), secret, "baptism", "irlandais"}
    return holder
