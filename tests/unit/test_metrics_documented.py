from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import REGISTRY

import api.clerk
import api.rate_limits
import api.request_log
import worker.delivery
import worker.metrics
import worker.sweeper

ROOT = Path(__file__).parent.parent.parent
#: Where the metrics are made when these are imported.
COUNTING = [api.clerk, api.rate_limits, api.request_log, worker.delivery, worker.metrics, worker.sweeper]
#: Made at each look, and therefore in no registry.
AT_EACH_LOOK = {
    "inkqueue_oldest_queued_seconds",
    "inkqueue_part_up",
    "inkqueue_queued_images",
    "inkqueue_webhooks_due",
    "inkqueue_workers",
}


def test_every_metric_is_documented_and_no_other() -> None:
    counted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("inkqueue_")
    }
    documented = re.findall(
        r"^\| `(inkqueue_\w+)`", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(documented) == counted | AT_EACH_LOOK
    assert len(documented) == len(set(documented))
