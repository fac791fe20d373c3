from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import REGISTRY

import api.rate_limits
import api.request_log
import worker.metrics
import worker.sweeper

ROOT = Path(__file__).parent.parent.parent
#: Where the metrics are made when these are imported.
COUNTING = [api.rate_limits, api.request_log, worker.metrics, worker.sweeper]
#: Made at each look, and therefore in no registry.
QUEUE = {"inkqueue_queued_images", "inkqueue_oldest_queued_seconds"}


def test_every_metric_is_documented_and_no_other() -> None:
    counted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("inkqueue_")
    }
    documented = re.findall(
        r"^\| `(inkqueue_\w+)`", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(documented) == counted | QUEUE
    assert len(documented) == len(set(documented))
