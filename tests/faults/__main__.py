"""`make faults`: every fault again and again, at random moments, for so many minutes."""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.faults.endurance import endured
from tests.faults.injections import FAULTS
from tests.faults.site import Site, running_site

#: Most jobs that are submitted before a fault.
_LATEST = 40


def main() -> None:
    """Inject faults in random order until the time is over; stops at the first that the service does not survive."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="the same order and moments again")
    parser.add_argument("--outage-s", type=float, default=60.0, help="how long the network to Redis is away")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append", help="only this one; may be repeated")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    ends = time.monotonic() + 60 * arguments.minutes
    recoveries: dict[str, list[float]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="inkqueue-faults-") as folder,
        running_site(Path(folder), outage_s=arguments.outage_s) as site,
    ):
        while time.monotonic() < ends:
            _round(site, arguments.fault or list(FAULTS), chance, recoveries, ends)
        jobs = len(site.load.submissions)
    for name, times in recoveries.items():
        print(f"{name}: {len(times)} times, median {statistics.median(times):.1f} s, longest {max(times):.1f} s")
    print(f"{jobs} jobs: none lost, none read or charged twice, each end told under one id")


def _round(
    site: Site, names: list[str], chance: random.Random, recoveries: dict[str, list[float]], ends: float
) -> None:
    """Each fault once."""
    for name in chance.sample(names, len(names)):
        after_jobs = chance.randint(1, _LATEST)
        if time.monotonic() > ends:
            return
        try:
            recoveries[name].append(endured(site, [name], after_jobs=after_jobs))
        except Exception:
            print("".join(site.service.log[-200:]), f"{name}, after {after_jobs} jobs: not survived", flush=True)
            raise
        print(f"{recoveries[name][-1]:5.1f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
