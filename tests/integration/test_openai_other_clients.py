"""Clients other than OpenAI's Python SDK, unmodified: its Node SDK, LiteLLM, LangChain; each in a process of its own.

Node's SDK is installed where there is npm, in four seconds. LiteLLM and LangChain bring 400 MB, and are tried where
they are installed: `pip install litellm langchain-openai`.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.domain import MODEL, new_key, png
from tests.fakes import FakeRecognizer
from tests.openai_batches import working
from tests.openai_clients import data_url
from tests.workers import pumped, worker_of

CALLS = Path(__file__).parent.parent / "clients"
LINE = data_url(png())
NODE_SDK = "openai@6.49.0"


@pytest.fixture(autouse=True)
def service() -> Iterator[None]:
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        yield


def said(command: list[str | Path], calls: object, **environment: str) -> Any:
    """What a client's calls gave."""
    environment |= {"CALLS": json.dumps(calls)}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_all_read(texts: list[str]) -> None:
    assert all(text.startswith("text of img_") for text in texts), texts
    assert len(set(texts)) == len(texts)


@pytest.fixture(scope="session")
def node_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent", NODE_SDK]
    subprocess.run(install, cwd=folder, check=True, timeout=100)
    return Path(shutil.copy(CALLS / "node_calls.mjs", folder))


def signed_webhook() -> dict[str, Any]:
    secret, body, at = "whsec_" + base64.b64encode(b"k" * 24).decode(), '{"type": "batch.completed"}', datetime.now(UTC)
    signature = Webhook(secret).sign("evt_1", at, body)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }
    return {"body": body, "headers": headers, "secret": secret}


def test_the_calls_of_the_node_sdk_work(node_calls: Path, address: str) -> None:
    gave = said(
        ["node", node_calls], [MODEL, LINE, signed_webhook()], OPENAI_BASE_URL=f"{address}/v1", OPENAI_API_KEY=new_key()
    )
    assert_all_read([text for name, text in gave.items() if name.startswith(("chat", "response", "upload"))])
    assert (gave["file_is_whole"], gave["file_is_deleted"], gave["files"]) == (True, True, ["vision"])
    assert gave["model"] in gave["models"]
    assert gave["batch"] == {"total": 2, "completed": 2, "failed": 0}
    assert gave["batch_output"] == ["line-0", "line-1"]
    assert gave["webhook"] == "batch.completed"
    assert gave["wrong_key"] == "invalid_api_key"


@pytest.mark.parametrize(("package", "script"), [("litellm", "litellm_calls"), ("langchain_openai", "langchain_calls")])
def test_the_calls_of_other_clients_work(package: str, script: str, address: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; it is too large to be installed for every test run")
    # LiteLLM would ask the internet for prices first.
    gave = said(
        [sys.executable, CALLS / f"{script}.py"],
        [MODEL, LINE, address, new_key()],
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert gave.pop("wrong_key", "AuthenticationError") == "AuthenticationError"
    assert_all_read(list(gave.values()))
