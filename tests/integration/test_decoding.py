from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from structlog.testing import CapturingLogger

from core.errors import ImageTooLarge, InkqueueError, InvalidImage, UnsupportedImage
from tests import image_samples as samples
from tests.waiting import wait_until
from worker import decoding
from worker.decoding import DecodingPool
from worker.decoding_process import DecodingProcess, ImageFile
from worker.recognizer import LinePixels

LINE = samples.ink_line()
PNG = samples.encoded(LINE)
MAX_PIXELS = 10**8
#: Mean distance of one colour value that lossy formats and lost colours may cost on the sample; a wrong turn costs 20.
CLOSE = 3.0


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodingPool]:
    pool = DecodingPool(processes=1, timeout_s=30, memory_bytes=2**30)
    yield pool
    pool.close()


@pytest.fixture
def open_pool() -> Iterator[Callable[..., DecodingPool]]:
    """Opens pools that the test may break."""
    pools: list[DecodingPool] = []

    def open_one(*, processes: int = 1, timeout_s: float = 30, memory_bytes: int = 2**30) -> DecodingPool:
        pools.append(DecodingPool(processes=processes, timeout_s=timeout_s, memory_bytes=memory_bytes))
        return pools[-1]

    yield open_one
    for pool in pools:
        pool.close()


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(samples.encoded(LINE, fmt), id=fmt) for fmt in samples.FORMATS),
        *(
            pytest.param(samples.exif_rotated(LINE, orientation, fmt), id=f"{fmt}-exif-{orientation}")
            for fmt in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")
            for orientation in range(2, 9)
        ),
        *(pytest.param(samples.with_alpha(LINE, fmt), id=f"{fmt}-alpha") for fmt in ("PNG", "WEBP", "AVIF", "HEIF")),
        pytest.param(samples.grey_with_alpha(LINE), id="grey-alpha"),
        pytest.param(samples.palette(LINE), id="palette"),
        pytest.param(samples.palette(LINE, transparent=True), id="palette-transparent"),
        pytest.param(samples.palette(LINE, "GIF", transparent=True), id="gif-transparent"),
        *(pytest.param(samples.one_bit(LINE, fmt), id=f"{fmt}-one-bit") for fmt in ("PNG", "TIFF", "BMP", "GIF")),
        *(pytest.param(samples.grey(LINE, fmt), id=f"{fmt}-grey") for fmt in ("PNG", "JPEG", "TIFF")),
        *(pytest.param(samples.grey_16_bit(LINE, fmt), id=f"{fmt}-grey-16") for fmt in ("PNG", "TIFF")),
        pytest.param(samples.grey_float(LINE), id="grey-float"),
        *(pytest.param(samples.cmyk(LINE, fmt), id=f"{fmt}-cmyk") for fmt in ("JPEG", "TIFF")),
        pytest.param(samples.phone_mpo(LINE), id="phone-mpo"),
        pytest.param(samples.multi_page([LINE, LINE.rotate(180)], "GIF"), id="gif-animated"),
        pytest.param(samples.multi_page([LINE, LINE.rotate(180)], "WEBP"), id="webp-animated"),
    ],
)
def test_every_sort_of_image_becomes_the_same_upright_picture(pool: DecodingPool, data: bytes) -> None:
    pixels = pool.decode(data, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)
    assert pixels.shape == (48, 320, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(LINE)).mean() < CLOSE


def test_16_bit_grey_keeps_its_shades(pool: DecodingPool) -> None:
    ramp = Image.linear_gradient("L")
    pixels = pool.decode(samples.grey_16_bit(ramp), max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)
    assert np.array_equal(pixels[:, :, 0], np.asarray(ramp))


@pytest.mark.parametrize("fmt", samples.FORMATS)
def test_half_a_file_is_an_invalid_image(pool: DecodingPool, fmt: str) -> None:
    with pytest.raises(InvalidImage, match="damaged"):
        pool.decode(samples.truncated(samples.encoded(LINE, fmt)), max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)


FILES = {fmt: samples.encoded(LINE, fmt) for fmt in samples.FORMATS}
#: Files made to harm.
HOSTILE = {
    **{f"huge {fmt}": samples.huge(fmt) for fmt in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "AVIF", "WEBP")},
    "bomb": samples.png_bomb(9_000, 9_000),
    "bomb of text": samples.with_text_bomb(),
    "40,000 frames": samples.gif_of_frames(40_000),
    "bad colour profile": samples.with_bad_profile("JPEG"),
    "EXIF in a circle": samples.with_looping_exif(),
    "ZIP behind it": samples.polyglot("PNG", b"PK\3\4" + bytes(1000)),
    "PDF behind it": samples.polyglot("JPEG", samples.pdf()),
    "script behind it": samples.polyglot("GIF", b"*/=1;alert(1)//"),
    "ZIP": b"PK\3\4" + bytes(1000),
    "gzip": b"\x1f\x8b\x08" + bytes(1000),
    "noise": bytes(range(256)) * 64,
}


def test_files_made_to_harm_end_soon_in_pixels_or_a_verdict_and_in_little_memory(
    open_pool: Callable[..., DecodingPool],
) -> None:
    memory_bytes = 192 * 2**20
    pool = open_pool(timeout_s=10, memory_bytes=memory_bytes)
    process = process_of(pool)
    began_bytes = peak_bytes(process)
    # As if the door had let all of them in.
    futures = {name: pool.decode(data, max_pixels=10**9, urgency=1) for name, data in HOSTILE.items()}
    ends = {name: future.exception(timeout=60) for name, future in futures.items()}
    assert {type(end) for end in ends.values()} <= {type(None), InvalidImage, UnsupportedImage, ImageTooLarge}
    # What is missing of a JPEG is grey, and so many pixels are decoded at a fraction of their size.
    harmless = {"huge JPEG", "40,000 frames", "bad colour profile", "EXIF in a circle"} | {
        name for name in ends if "behind" in name
    }
    assert {name for name, end in ends.items() if end is None} == harmless
    assert process_of(pool) == process  # none of them took it with it
    assert peak_bytes(process) < began_bytes + memory_bytes


@settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(samples.FORMATS),
    st.sampled_from(samples.FORMATS),
    st.floats(0, 1),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6)), max_size=6),
)
def test_no_spliced_and_mutated_file_harms_the_pool(
    pool: DecodingPool, first: str, second: str, cut: float, begin: float, changes: list[tuple[float, bytes]]
) -> None:
    one, other = FILES[first], FILES[second]
    data = bytearray(one[: int(len(one) * cut)] + other[int(len(other) * begin) :])
    for place, written in changes:
        at = int(len(data) * place)
        data[at : at + len(written)] = written
    end = pool.decode(bytes(data), max_pixels=10**7, urgency=1).exception(timeout=30)
    assert end is None or (isinstance(end, (InvalidImage, UnsupportedImage, ImageTooLarge)) and end.message)
    assert pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30).shape == (48, 320, 3)


def test_verdicts_of_the_header_hold_in_the_process_too(pool: DecodingPool) -> None:
    with pytest.raises(UnsupportedImage, match="SVG"):
        pool.decode(samples.svg(), max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)
    with pytest.raises(ImageTooLarge, match="50,000"):
        pool.decode(samples.png_header(50_000, 50_000), max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)


def test_many_threads_get_their_own_pixels(pool: DecodingPool) -> None:
    def decode_sixteen(thread: int) -> bool:
        strips = [Image.new("L", (20 + thread, 10), shade) for shade in range(0, 160, 10)]
        futures = {pool.decode(samples.encoded(strip), max_pixels=MAX_PIXELS, urgency=1): strip for strip in strips}
        return all(
            np.array_equal(future.result()[:, :, 1], np.asarray(futures[future]))
            for future in as_completed(futures, timeout=30)
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(decode_sixteen, range(8)))


def test_an_image_that_wants_too_much_memory_fails_alone(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool(memory_bytes=64 * 2**20)
    greedy = pool.decode(samples.encoded(Image.new("L", (6000, 6000)), "PNG"), max_pixels=MAX_PIXELS, urgency=1)
    modest = pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1)
    with pytest.raises(InvalidImage, match="memory"):
        greedy.result(timeout=30)
    assert modest.result(timeout=30).shape == (48, 320, 3)


def test_an_image_that_takes_too_long_fails_alone(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool(timeout_s=0.5)
    stopped = process_of(pool)
    os.kill(stopped, signal.SIGSTOP)
    slow, *others = [pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1) for _ in range(5)]
    with pytest.raises(InvalidImage, match=r"more than 0\.5 s"):
        slow.result(timeout=30)
    assert [other.result(timeout=30).shape for other in others] == [(48, 320, 3)] * 4
    assert process_of(pool) != stopped


def test_an_image_has_the_memory_of_the_last_one() -> None:
    file = ImageFile(data=samples.encoded(LINE.resize((1000, 100)), "JPEG"), max_pixels=MAX_PIXELS)
    process = DecodingProcess(memory_bytes=2**30)
    try:
        assert process.ensure_started() is None
        faults = []
        for _ in range(20):
            process.send([file], timeout_s=20)
            assert isinstance(process.receive(max_pixels=MAX_PIXELS, timeout_s=20), np.ndarray)
            faults.append(page_faults_of(process))
    finally:
        process.stop()
    # The pixels alone are 98 pages in Pillow's form and 74 in ours.
    assert (faults[-1] - faults[9]) / 10 < 10


def page_faults_of(process: DecodingProcess) -> int:
    assert process._process is not None
    return int(Path(f"/proc/{process._process.pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_an_image_that_crashes_its_process_twice_fails_alone(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = samples.encoded(LINE.rotate(180))

    class Crashing(DecodingProcess):
        def send(self, images: Sequence[ImageFile], *, timeout_s: float) -> None:
            if images[0].data == deadly:
                self.interrupt()
            super().send(images, timeout_s=timeout_s)

    monkeypatch.setattr(decoding, "DecodingProcess", Crashing)
    pool = open_pool()
    crash, *others = [pool.decode(data, max_pixels=MAX_PIXELS, urgency=1) for data in (deadly, PNG, PNG)]
    with pytest.raises(InvalidImage, match="crashes the decoder"):
        crash.result(timeout=30)
    assert [other.result(timeout=30).shape for other in others] == [(48, 320, 3)] * 2


def test_a_process_killed_from_outside_costs_no_image(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool()
    killed = process_of(pool)
    os.kill(killed, signal.SIGSTOP)
    futures = [pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1) for _ in range(20)]
    wait_until(futures[0].running)
    os.kill(killed, signal.SIGKILL)
    assert [future.result(timeout=30).shape for future in futures] == [(48, 320, 3)] * 20


def test_a_process_killed_while_idle_costs_no_image(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool()
    os.kill(process_of(pool), signal.SIGKILL)
    assert pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30).shape == (48, 320, 3)


def test_that_no_process_starts_is_not_the_images_fault(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = open_pool()
    with pytest.raises(OSError, match="process ended"):
        pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)


#: What befalls the thread of a process, and what its image comes to.
MISHAPS = [(MemoryError("no room"), "no room"), (RuntimeError("nobody thought of it"), "could not be decoded")]


@pytest.mark.parametrize(("mishap", "error"), MISHAPS)
def test_whatever_befalls_one_image_the_others_are_decoded(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch, mishap: Exception, error: str
) -> None:
    class Unlucky(DecodingProcess):
        def receive(self, *, max_pixels: int, timeout_s: float) -> LinePixels | InkqueueError:
            if max_pixels == MAX_PIXELS - 1:
                raise mishap
            return super().receive(max_pixels=max_pixels, timeout_s=timeout_s)

    monkeypatch.setattr(decoding, "DecodingProcess", Unlucky)
    pool = open_pool()
    larger = samples.encoded(LINE.resize((640, 96)))
    bad = pool.decode(larger, max_pixels=MAX_PIXELS - 1, urgency=1)
    others = [pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1) for _ in range(2)]
    assert error in str(bad.exception(timeout=30))
    # None of them is the answer that was still to come.
    assert [other.result(timeout=30).shape for other in others] == [(48, 320, 3)] * 2


@pytest.mark.parametrize(("mishap", "error"), MISHAPS)
def test_whatever_befalls_a_start_the_next_one_decodes(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch, mishap: Exception, error: str
) -> None:
    mishaps = [mishap]

    class Unlucky(DecodingProcess):
        def _start(self) -> None:
            super()._start()
            if mishaps:
                raise mishaps.pop()

    monkeypatch.setattr(decoding, "DecodingProcess", Unlucky)
    pool = open_pool()
    assert error in str(pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).exception(timeout=30))
    assert pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30).shape == (48, 320, 3)


def test_what_nobody_thought_of_is_logged_with_its_traceback(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()

    def ensure_started(_process: DecodingProcess) -> None:
        raise RuntimeError

    monkeypatch.setattr("worker.decoding._log", log)
    monkeypatch.setattr(DecodingProcess, "ensure_started", ensure_started)
    with pytest.raises(InkqueueError, match="could not be decoded"):
        open_pool().decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)
    assert {call.method_name for call in log.calls} == {"exception"}


def test_closing_cancels_what_is_not_decoded(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool()
    os.kill(process_of(pool), signal.SIGSTOP)
    futures = [pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1) for _ in range(40)]
    wait_until(futures[0].running)
    pool.close()
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    with pytest.raises(RuntimeError, match="closed"):
        pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1)


def test_a_cancelled_image_is_never_decoded(open_pool: Callable[..., DecodingPool]) -> None:
    pool = open_pool()
    stopped = process_of(pool)
    os.kill(stopped, signal.SIGSTOP)
    first, second, third = (pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1) for _ in range(3))
    wait_until(first.running)
    assert second.cancel() or second.running()
    os.kill(stopped, signal.SIGCONT)
    assert third.result(timeout=30).shape == (48, 320, 3)


def test_a_process_carries_neither_numpy_nor_torch_nor_secrets(
    open_pool: Callable[..., DecodingPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://inkqueue:secret@db/inkqueue")
    process = Path(f"/proc/{process_of(open_pool())}")
    libraries = (process / "maps").read_text()
    assert "PIL" in libraries
    assert "numpy" not in libraries
    assert "torch" not in libraries
    assert b"secret" not in (process / "environ").read_bytes()


def test_ctrl_c_does_not_reach_the_processes(open_pool: Callable[..., DecodingPool]) -> None:
    assert os.getpgid(process_of(open_pool())) != os.getpgid(0)


def test_the_processes_end_with_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent
    )
    assert parent.stdout is not None
    with parent.stdout:
        orphan = int(parent.stdout.readline())
    os.kill(orphan, signal.SIGSTOP)  # it cannot notice by itself
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(orphan))


PARENT = """
from tests.integration.test_decoding import process_of
from worker.decoding import DecodingPool
print(process_of(DecodingPool(processes=1, timeout_s=30, memory_bytes=2**30)), flush=True)
input()
"""


def process_of(pool: DecodingPool) -> int:
    """The id of the process of the pool that was opened last, once it works."""
    pool.decode(PNG, max_pixels=MAX_PIXELS, urgency=1).result(timeout=30)
    children = {int(pid) for task in Path("/proc/self/task").iterdir() for pid in _read(task / "children").split()}
    return max(children, key=lambda pid: int(_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[19] or 0))


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held."""
    return 1024 * int(_read(Path(f"/proc/{pid}/status")).partition("VmHWM:")[2].split()[0])


def is_running(pid: int) -> bool:
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
