"""The faults: each is injected under load, and checks at its end what is true of it alone."""

from __future__ import annotations

import io
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from PIL import Image
from redis import Redis

from tests.faults.site import API, CLERK, COURIER, LINE, POSTGRES, VALKEY, WORKER, Site
from tests.faults.wedge import MODEL, wedge_file
from tests.openai_batches import chat, counts, create, ended, results
from tests.openai_clients import client_of, data_url
from tests.waiting import wait_until

#: Before the `yield` the cause comes, and goes if it does not stay; then the service is watched; and when the load has
#: ended, what comes behind the `yield` looks at what this fault alone leaves.
Fault = Callable[[Site], AbstractContextManager[None]]

_BATCH_LINES = 24


def _signal(*names: str, number: signal.Signals = signal.SIGKILL) -> Fault:
    @contextmanager
    def fault(site: Site) -> Iterator[None]:
        victims = [site.kill(name, number) for name in names]
        yield
        assert not {pid for name in names for pid in site.processes(name)} & set(victims)

    return fault


@contextmanager
def _api_process_killed(site: Site) -> Iterator[None]:
    # gunicorn's own process lives on and starts another.
    wait_until(lambda: len(site.processes(API)) > 1)
    master, victim = site.processes(API)[:2]
    os.kill(victim, signal.SIGKILL)
    yield
    assert site.process(API) == master


@contextmanager
def _clerk_killed(site: Site) -> Iterator[None]:
    """The clerk dies while it makes jobs of a batch."""
    client = client_of(str(site.service.http.base_url), (site.state_dir / "api_key").read_text().strip())
    image = data_url(LINE.read_bytes(), "image/jpeg")
    batch = create(client, *[chat(f"line-{number}", image, model=MODEL) for number in range(_BATCH_LINES)])
    wait_until(lambda: site.count("SELECT count(*) FROM jobs WHERE batch_id = %s", batch.id), timeout_s=60)
    victim = site.kill(CLERK)
    yield
    batch = ended(client, batch)
    assert victim not in site.processes(CLERK)
    assert counts(batch) == (_BATCH_LINES, _BATCH_LINES, 0)
    assert len(results(client, batch.output_file_id)) == _BATCH_LINES


@contextmanager
def _redis_flushed(site: Site) -> Iterator[None]:
    with site.service.redis() as redis:
        redis.flushall()
    yield


@contextmanager
def _redis_read_only(site: Site) -> Iterator[None]:
    """Redis refuses every write, as it does when its disk is full or it has become a replica."""
    worker = site.process(WORKER)
    with site.service.redis() as redis:
        redis.config_set("min-replicas-to-write", 1)
        wait_until(lambda: _refused_writes(redis) >= 20, timeout_s=60)
        redis.config_set("min-replicas-to-write", 0)
    yield
    assert site.process(WORKER) == worker


def _refused_writes(redis: Redis) -> int:
    errors = redis.info("errorstats")
    return int(errors.get("errorstat_NOREPLICAS", {"count": 0})["count"])


@contextmanager
def _storage_full(site: Site) -> Iterator[None]:
    """The kernel lets the API's processes write no file beyond a length: the images find no room."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in site.processes(API)}
    before = len(site.load.refusals)
    for pid, (_, most) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, most))
    _wait_for_refusals(site, before)
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    yield


@contextmanager
def _database_disk_full(site: Site) -> Iterator[None]:
    """The same for Postgres: it cannot write its log ahead, and ends; its next life has room."""
    victim = site.process(POSTGRES)
    for pid in [victim, *site.processes("postgres:")]:
        try:
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (2**14, most))
        except ProcessLookupError:
            continue
    yield
    assert site.process(POSTGRES) != victim


@contextmanager
def _database_read_only(site: Site) -> Iterator[None]:
    """Postgres writes nothing, as after a failover that left us at the old primary, or where a host guards its disk."""
    before = len(site.load.refusals)
    with site.service.postgres() as connection:
        connection.autocommit = True
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        _wait_for_refusals(site, before)
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")
    yield


def _wait_for_refusals(site: Site, before: int) -> None:
    """Wait until clients were told to come again, after so many refusals that were before."""
    wait_until(lambda: len(site.load.refusals) >= before + 3, timeout_s=60)


@contextmanager
def _worker_frozen(site: Site) -> Iterator[None]:
    """The worker stands still with images in its hands until another worker has read them; then it goes on."""
    (frozen_id,) = site.workers()
    with site.second_worker():
        frozen = site.process(WORKER)
        _freeze_with_images(site, frozen, frozen_id)
        try:
            held = [image for (image,) in site.service.rows(_HELD, frozen_id)]
            wait_until(lambda: site.count(_READ_BY_OTHERS, held, frozen_id) == len(held), timeout_s=60)
        finally:
            os.kill(frozen, signal.SIGCONT)
        wait_until(lambda: frozen not in site.processes(WORKER), timeout_s=60)
    yield


_HELD = "SELECT id FROM images WHERE status = 'running' AND worker_id = %s"
_AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
_READ_BY_OTHERS = "SELECT count(*) FROM images WHERE id = ANY(%s) AND status = 'succeeded' AND worker_id <> %s"


def _freeze_with_images(site: Site, pid: int, worker_id: str) -> None:
    def is_caught() -> bool:
        os.kill(pid, signal.SIGSTOP)
        # What it had asked of Postgres before may still end some of its images.
        wait_until(lambda: not site.count(_AT_WORK), timeout_s=60)
        if site.service.rows(_HELD, worker_id):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(is_caught, timeout_s=60)


@contextmanager
def _device_wedged(site: Site) -> Iterator[None]:
    victim = site.process(WORKER)
    wedge = wedge_file(site.state_dir)
    wedge.touch()
    wait_until(lambda: not wedge.exists(), timeout_s=60)
    yield
    assert victim not in site.processes(WORKER)


@contextmanager
def _consumer_deaf(site: Site) -> Iterator[None]:
    victim = site.process(WORKER)
    wait_until(site.redis_network.deafen_consumers, timeout_s=60)
    yield
    assert victim not in site.processes(WORKER)


@contextmanager
def _network_to_redis_lost(site: Site) -> Iterator[None]:
    ends = time.monotonic() + site.outage_s
    with site.redis_network.silence():
        wait_until(lambda: time.monotonic() > ends, timeout_s=2 * site.outage_s)
    yield


@contextmanager
def _decoder_crashed(site: Site) -> Iterator[None]:
    """Three files between good ones: one kills its decoding process, one makes it endless, one takes all memory."""
    good = (LINE.name, LINE.read_bytes())
    bad = [("bad.png", _picture(megapixels)) for megapixels in (25, 25, 60)]
    submission = site.load.submit(good, *bad, good)
    first = _send_decoder(site, signal.SIGKILL)
    # The first death may be an accident from outside, so that the file gets another process.
    second = _send_decoder(site, signal.SIGKILL, besides={first})
    _send_decoder(site, signal.SIGSTOP, besides={first, second})
    yield
    images = site.service.rows(
        "SELECT status, error_code, error_message FROM images WHERE job_id = %s ORDER BY position", submission.job_id
    )
    assert [image[:2] for image in images] == [
        ("succeeded", None),
        *[("failed", "invalid_image")] * 3,
        ("succeeded", None),
    ]
    for (_, _, message), why in zip(images[1:4], ("crashes the decoder", "takes more than", "memory"), strict=True):
        assert why in message


#: A decoding process that is larger than with any good file, bytes.
_LARGE = 120 * 2**20


def _send_decoder(site: Site, number: signal.Signals, *, besides: Collection[int] = ()) -> int:
    """Send the decoding process a signal in the middle of a large picture; its pid."""
    caught: list[int] = []

    def is_caught() -> bool:
        caught[:] = [pid for pid in site.processes("decoding_child") if pid not in besides and _resident(pid) > _LARGE]
        return bool(caught)

    wait_until(is_caught, timeout_s=60)
    os.kill(caught[0], number)
    return caught[0]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _picture(megapixels: int) -> bytes:
    """A small file of so many pixels, which take twelve bytes each while their transparency is put on white."""
    file = io.BytesIO()
    Image.new("P", (megapixels * 250, 4000)).save(file, "PNG", bits=1, transparency=0)
    return file.getvalue()


def _everything_ended(number: signal.Signals) -> Fault:
    @contextmanager
    def fault(site: Site) -> Iterator[None]:
        status = site.restart(number)
        assert status == (0 if number is signal.SIGTERM else -number)
        yield

    return fault


FAULTS: dict[str, Fault] = {
    "kill -9 of the API": _signal(API),
    "kill -9 of the API's serving process": _api_process_killed,
    "kill -9 of the worker": _signal(WORKER),
    "kill -9 of the courier": _signal(COURIER),
    "kill -9 of the clerk": _clerk_killed,
    "kill -9 of Postgres": _signal(POSTGRES),
    "stop of Postgres": _signal(POSTGRES, number=signal.SIGINT),
    "kill -9 of Redis": _signal(VALKEY),
    "stop of Redis": _signal(VALKEY, number=signal.SIGTERM),
    "FLUSHALL": _redis_flushed,
    "Redis takes no writes": _redis_read_only,
    "storage full": _storage_full,
    "Postgres's disk full": _database_disk_full,
    "Postgres takes no writes": _database_read_only,
    "worker frozen past its lease": _worker_frozen,
    "device wedged": _device_wedged,
    "decoder crashed": _decoder_crashed,
    "network to Redis lost": _network_to_redis_lost,
    "worker no longer consumes": _consumer_deaf,
    "SIGTERM of everything": _everything_ended(signal.SIGTERM),
    "kill -9 of everything": _everything_ended(signal.SIGKILL),
}
