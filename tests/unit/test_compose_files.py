from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker-compose.yml"
FILES = [BASE, "compose.gpu.yml", "compose.observability.yml"]
#: Of a container that nobody outside may enter and that may change nothing but its volumes.
CONTAINED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return found


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = loaded(name)["services"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_compose_file_agrees_with_the_specification(name: str) -> None:
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(loaded(name))] == []


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.skipif(
    not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="docker compose is not here",
)
def test_docker_compose_itself_understands_the_files_together(name: str) -> None:
    command = ["docker", "compose", "-f", BASE, "-f", name, "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [BASE, "compose.observability.yml"])
def test_every_container_is_contained(name: str) -> None:
    for service, what in services(name).items():
        assert {key: what[key] for key in CONTAINED} == CONTAINED, service
        assert not what.get("privileged"), service


@pytest.mark.parametrize("name", [BASE, "compose.observability.yml"])
def test_no_log_grows_for_ever(name: str) -> None:
    for service, what in services(name).items():
        assert what["logging"]["options"].keys() == {"max-size", "max-file"}, service


def test_each_gpu_has_one_worker_with_cuda() -> None:
    workers = {name: what for name, what in services("compose.gpu.yml").items() if name.startswith("worker")}
    assert [what["image"] for what in workers.values()] == ["inkqueue-worker:cuda"] * len(workers)
    assert [what["build"] for what in workers.values()] == [{"args": {"DEVICE": "cuda"}}] * len(workers)
    gpus = [what["deploy"]["resources"]["reservations"]["devices"] for what in workers.values()]
    assert gpus == [
        [{"driver": "nvidia", "device_ids": [str(n)], "capabilities": ["gpu"]}] for n in range(len(workers))
    ]


def test_only_the_api_is_published_and_on_loopback() -> None:
    published = {service: what["ports"] for service, what in services(BASE).items() if "ports" in what}
    assert published == {"api": ["${INKQUEUE_PUBLISH:-127.0.0.1:8080}:8080"]}
    for what in services("compose.observability.yml").values():
        assert all(":-127.0.0.1:" in port for port in what.get("ports", []))


def test_no_secret_has_a_value_that_the_world_knows() -> None:
    text = "".join((ROOT / name).read_text() for name in [*FILES, "Dockerfile"])
    told = re.findall(r"\b(\w*(?:PASSWORD|SECRET)\w*)[:=] *([^\s:].*)$", text, re.MULTILINE)
    given = {value for name, value in told if name != "INKQUEUE_SECRETS_DIR"}
    in_a_file = '"$$(cat /run/inkqueue-secrets/postgres_password)" exec docker-entrypoint.sh postgres -c jit=off'
    assert given == {"${POSTGRES_PASSWORD:-}", in_a_file}


def test_every_process_waits_for_the_migration_and_may_finish_its_work() -> None:
    for name in ("api", "worker", "courier", "clerk"):
        service = services(BASE)[name]
        assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert int(service["stop_grace_period"].removesuffix("s")) >= 20


def test_every_variable_of_the_compose_files_is_in_the_example() -> None:
    used = {found for name in FILES for found in re.findall(r"\$\{(\w+)", (ROOT / name).read_text())}
    example = (ROOT / ".env.example").read_text()
    assert used <= set(re.findall(r"^#(\w+)=", example, re.MULTILINE))
    of_compose = re.findall(r"^#(\w+)=", example.partition("# Of docker compose alone:")[2], re.MULTILINE)
    assert of_compose
    assert set(of_compose) <= used


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_runs_as_nobody_special_and_says_when_it_is_well(target: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stage = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)
    (last,) = (text for text in stage if re.match(rf"\S+ AS {target}\n", text))
    assert "\nUSER inkqueue\n" in last
    assert "\nHEALTHCHECK " in last
    assert "STOPSIGNAL SIGTERM" in dockerfile
    assert "syntax" not in dockerfile
    assert "<<" not in dockerfile
