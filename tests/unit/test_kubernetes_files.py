from __future__ import annotations

import json
import re
import shutil
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
#: Each is what `kubectl apply -k` takes.
OVERLAYS = ["base", "gpu", "keda"]
#: Those of which one is the whole service.
SERVICES = OVERLAYS[:2]
SCHEMAS = json.loads((ROOT / "tests/schemas/kubernetes-1.36.json").read_text())["$defs"]
GROUPS = {"v1": "core", "apps/v1": "apps", "batch/v1": "batch", "policy/v1": "policy"}
GROUPS |= {"networking.k8s.io/v1": "networking"}


@cache
def loaded(folder: str) -> list[tuple[str, dict[str, Any]]]:
    """Every resource of a folder, with its file."""
    named = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"]
    files = [FOLDER / folder / name for name in named if name.endswith(".yaml")]
    return [(file.name, resource) for file in files for resource in yaml.safe_load_all(file.read_text())]


def problems(resource: dict[str, Any]) -> list[str]:
    """What Kubernetes would refuse of a resource; unknown fields too."""
    name = f"io.k8s.api.{GROUPS[resource['apiVersion']]}.v1.{resource['kind']}"
    schema = {"$ref": f"#/$defs/{name}", "$defs": SCHEMAS}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(resource)]


def pods() -> dict[str, dict[str, Any]]:
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]
        for _, resource in loaded("base")
        if resource["kind"] in ("Deployment", "Job")
    }


def test_every_resource_agrees_with_the_schema_of_kubernetes() -> None:
    assert [(file, wrong) for file, resource in loaded("base") for wrong in problems(resource)] == []


def test_a_mistyped_field_would_be_found() -> None:
    deployment = deepcopy(next(resource for _, resource in loaded("base") if resource["kind"] == "Deployment"))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    assert len(problems(deployment)) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_file_belongs_to_an_overlay(overlay: str) -> None:
    kustomization = yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text())
    named = {*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))}
    files = {file.name for file in (FOLDER / overlay).iterdir()} - {"kustomization.yaml"}
    assert named - {"../base"} == files


def rendered(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")


@pytest.mark.parametrize("overlay", SERVICES)
@needs_kubectl
def test_kubectl_itself_renders_what_agrees_with_the_schema(overlay: str) -> None:
    resources = rendered(FOLDER / overlay)
    assert len(resources) == len(loaded("base"))
    assert [wrong for resource in resources for wrong in problems(resource)] == []


@needs_kubectl
def test_scaling_leaves_the_service_as_it_was_applied() -> None:
    # Another worker in it would take the GPUs away; a number of replicas, what KEDA has started, whenever one applies.
    assert [resource["kind"] for resource in rendered(FOLDER / "keda")] == ["ScaledObject"]
    (worker,) = (
        resource
        for _, resource in loaded("base")
        if resource["kind"] == "Deployment" and resource["metadata"]["name"] == "worker"
    )
    assert "replicas" not in worker["spec"]


@needs_kubectl
def test_workers_with_a_gpu_never_take_the_image_for_a_cpu(tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    base = copied / "base/kustomization.yaml"
    base.write_text(base.read_text().replace("registry.example.org", "registry-of-the-base.example.org"))
    images = {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]["containers"][0]["image"]
        for resource in rendered(copied / "gpu")
        if resource["kind"] == "Deployment"
    }
    assert images["worker"] == "registry.example.org/inkqueue-worker:0.1.0-cuda"
    assert images["api"] == "registry-of-the-base.example.org/inkqueue-api:0.1.0"


def test_every_process_of_the_service_runs() -> None:
    assert pods().keys() == {"migrate", "api", "worker", "courier", "clerk"}


def test_every_pod_is_contained() -> None:
    for name, pod in pods().items():
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        assert container["resources"]["limits"]["memory"], name


def test_every_server_has_probes_and_time_to_end_its_work() -> None:
    graces = {"api": 30, "worker": 35, "courier": 10, "clerk": 10}
    for name, least_s in graces.items():
        (container,) = pods()[name]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name
        assert pods()[name]["terminationGracePeriodSeconds"] > least_s, name


def test_a_disruption_budget_speaks_of_each_deployment() -> None:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for _, resource in loaded("base"):
        by_kind.setdefault(resource["kind"], []).append(resource)
    budgets = {budget["metadata"]["name"]: budget["spec"]["selector"] for budget in by_kind["PodDisruptionBudget"]}
    assert budgets == {d["metadata"]["name"]: d["spec"]["selector"] for d in by_kind["Deployment"]}


def test_the_shared_settings_are_settings() -> None:
    (told,) = (resource["data"] for _, resource in loaded("base") if resource["kind"] == "ConfigMap")
    known = {f"INKQUEUE_{name.upper()}" for name in Settings.model_fields} | {"DATABASE_URL", "REDIS_URL"}
    assert told.keys() <= known


def test_keda_scales_the_workers_by_metrics_that_there_are() -> None:
    ((_, scaled),) = loaded("keda")
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"name": "worker"}
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"]
    documented = re.findall(r"^\| `(inkqueue_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    for trigger in spec["triggers"]:
        assert trigger.keys() == {"type", "name", "metadata"}
        # KEDA takes strings only.
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
        assert set(re.findall(r"inkqueue_\w+(?=\{)", trigger["metadata"]["query"])) <= set(documented)
