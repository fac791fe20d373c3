"""The licence of everything that a running service installs, as its own metadata says it."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text())
LICENCES = PROJECT["tool"]["inkqueue"]["licences"]
ALLOWED: frozenset[str] = frozenset(LICENCES["allowed"])
#: Package, or a pattern of packages, to the reason why its licence is taken all the same.
EXCEPTIONS: dict[str, str] = LICENCES["exceptions"]
#: All extras but `dev`: what tests are made with is handed to nobody.
EXTRAS = frozenset(PROJECT["project"]["optional-dependencies"]) - {"dev"}


def runtime_packages() -> set[str]:
    """Every package that the service needs on this machine, by way of others too."""
    found: dict[str, frozenset[str]] = {}
    waiting = [("inkqueue", EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name in found and extras <= found[name]:
            continue
        found[name] = extras = found.get(name, frozenset()) | extras
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                waiting.append((needed.name, frozenset(needed.extras)))
    return set(found) - {"inkqueue"}


def is_allowed(package: str) -> bool:
    metadata = distribution(package).metadata
    for expression in metadata.get_all("License-Expression") or []:
        # SPDX: one of those between OR, all of those between AND.
        return any(ALLOWED.issuperset(choice.strip("() ").split(" AND ")) for choice in expression.split(" OR "))
    named = [word.rpartition(" :: ")[2] for word in metadata.get_all("Classifier") or [] if word.startswith("License")]
    named = [name for name in named if name != "OSI Approved"] or metadata.get_all("License") or ["none"]
    return ALLOWED.issuperset(named)


def bundled_licences(package: str) -> str:
    """What a wheel says of the libraries that it carries."""
    found = distribution(package)
    names = [
        name for name in found.metadata.get_all("License-File") or [] if re.search("bundled|3rd-party", name, re.I)
    ]
    return "".join(found.read_text(f"licenses/{name}") or found.read_text(name) or "" for name in names)


def test_every_package_has_a_licence_that_is_allowed_or_excused_with_a_reason() -> None:
    packages = runtime_packages()
    assert {"flask", "celery", "torch", "psycopg", "pillow"} <= packages
    excused = {package for package in packages if any(fnmatch(package, pattern) for pattern in EXCEPTIONS)}
    assert {package for package in packages if not is_allowed(package)} == excused


def test_wheels_that_bundle_libraries_under_the_gpl_are_known() -> None:
    bundling = {package for package in runtime_packages() if "GPL" in bundled_licences(package)}
    assert bundling == set(LICENCES["bundled"])
