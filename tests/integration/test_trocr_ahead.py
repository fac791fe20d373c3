"""Lines that a CPU encodes before they have rows."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.fakes import SilentObserver
from tests.trocr_models import BUNDLED, bundled_recognizer, generated, read_all, some_lines, two_threads
from tests.waiting import wait_until
from worker.batcher import Batcher, QueuedLine
from worker.recognizer import LinePixels, LineRequest, Recognition
from worker.trocr import TrocrRecognizer, load_trocr
from worker.trocr_ahead import EncodedAhead
from worker.trocr_checkpoint import Checkpoint
from worker.trocr_device import computing_with

LIMIT = 24


class Encoder:
    """Encodes lines to their heights, when it is let; some fail as often as it is told. One thread keeps the order."""

    def __init__(self, *, threads: int = 1) -> None:
        self.threads = threads
        self.let = threading.Event()
        #: Heights of lines.
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.failures: Counter[int] = Counter()
        self.ahead = EncodedAhead(self._encoded, ThreadPoolExecutor(threads), most=4)

    def want(self, *lines: LinePixels) -> None:
        self.ahead.want([LineRequest(pixels=line) for line in lines])

    def read(self, *lines: LinePixels) -> list[int]:
        return [int(states) for states in self.ahead.encoded(lines)]

    def _encoded(self, line: LinePixels) -> Tensor:
        height = line.shape[0]
        self.begun.append(height)
        assert self.let.wait(20)
        self.ended.append(height)
        if self.failures[height]:
            self.failures[height] -= 1
            raise MemoryError
        return torch.tensor([height])


def line_of_height(height: int) -> LinePixels:
    return np.zeros((height, 8, 3), np.uint8)


def wanted_lines(encoder: Encoder) -> list[LinePixels]:
    """Four lines that are wanted, of which as many are under way as there are threads."""
    lines = [line_of_height(height) for height in (1, 2, 3, 4)]
    encoder.want(*lines)
    wait_until(lambda: len(encoder.begun) == encoder.threads)
    return lines


def test_what_was_begun_is_encoded_once() -> None:
    encoder, first, second, third = Encoder(), line_of_height(1), line_of_height(2), line_of_height(3)
    encoder.let.set()
    encoder.want(first, second)
    encoder.want(second, first)
    assert (encoder.ahead.has_begun(first), encoder.ahead.has_begun(third)) == (True, False)
    assert encoder.read(third, second, first) == [3, 2, 1]
    assert sorted(encoder.begun) == [1, 2, 3]
    assert not encoder.ahead.has_begun(first)


def test_lines_are_begun_in_the_order_in_which_they_are_wanted() -> None:
    encoder = Encoder()
    lines = [line_of_height(height) for height in (5, 2, 4, 3)]
    encoder.want(*lines)
    encoder.let.set()
    encoder.read(*lines)
    assert encoder.begun == [5, 2, 4, 3]


def test_a_line_that_looks_the_same_is_another() -> None:
    encoder, line = Encoder(), line_of_height(1)
    encoder.let.set()
    encoder.want(line)
    assert not encoder.ahead.has_begun(line_of_height(1))
    # One that was not held might leave its address to the next.
    held = weakref.ref(line)
    del line
    wait_until(lambda: encoder.ended == [1])
    gc.collect()
    assert held() is not None


def test_what_is_not_wanted_any_more_is_waited_for_by_whoever_wants_all_forgotten() -> None:
    encoder = Encoder(threads=2)
    lines = wanted_lines(encoder)
    encoder.want(lines[1])
    with ThreadPoolExecutor(1) as pool:
        forgetting = pool.submit(encoder.ahead.forget)
        with pytest.raises(TimeoutError):
            forgetting.result(0.2)
        encoder.let.set()
        forgetting.result(20)
    assert (sorted(encoder.ended), len(encoder.begun), encoder.ahead.has_begun(lines[1])) == ([1, 2], 2, False)


def test_lines_that_are_needed_now_go_before_those_that_are_only_wanted() -> None:
    encoder = Encoder()
    wanted = wanted_lines(encoder)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(encoder.read, line_of_height(5), line_of_height(6))
        wait_until(lambda: not encoder.ahead.has_begun(wanted[2]))
        encoder.let.set()
        assert reading.result(20) == [5, 6]
    assert encoder.begun == [1, 5, 6]
    encoder.want(*wanted)
    assert encoder.read(*wanted) == [1, 2, 3, 4]
    assert encoder.begun == [1, 5, 6, 2, 3, 4]


def test_of_lines_that_are_wanted_the_one_that_is_needed_goes_first() -> None:
    encoder = Encoder()
    wanted = wanted_lines(encoder)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(encoder.read, wanted[3])
        wait_until(lambda: not encoder.ahead.has_begun(wanted[2]))
        encoder.let.set()
        assert reading.result(20) == [4]
    assert encoder.begun == [1, 4]


def test_what_is_kept_is_not_begun() -> None:
    encoder = Encoder(threads=2)
    wanted = wanted_lines(encoder)
    encoder.ahead.keep([LineRequest(pixels=line) for line in wanted[1:]])
    assert [encoder.ahead.has_begun(line) for line in wanted] == [False, True, False, False]
    encoder.let.set()
    encoder.ahead.forget()
    assert sorted(encoder.begun) == [1, 2]


def test_what_is_forgotten_is_not_held() -> None:
    encoder, line = Encoder(), line_of_height(1)
    encoder.want(line)
    wait_until(lambda: encoder.begun == [1])
    held = weakref.ref(line)
    del line
    encoder.want()
    threading.Timer(0.1, encoder.let.set).start()
    encoder.ahead.forget()
    gc.collect()
    assert held() is None
    assert not encoder.ahead._ending


def test_what_failed_ahead_is_tried_once_more_by_itself() -> None:
    encoder, lines = Encoder(), [line_of_height(height) for height in (1, 2, 3, 4)]
    encoder.let.set()
    encoder.failures.update([1])
    encoder.want(lines[0])
    wait_until(lambda: encoder.ended == [1])
    encoder.let.clear()
    encoder.want(*lines)
    wait_until(lambda: len(encoder.begun) == 2)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(encoder.read, lines[0])
        wait_until(lambda: not encoder.ahead.has_begun(lines[3]))
        assert encoder.begun == [1, 2]
        encoder.let.set()
        assert reading.result(20) == [1]
    assert encoder.begun == [1, 2, 1]


def test_when_one_line_fails_nothing_of_its_group_is_under_way_any_more() -> None:
    encoder, lines = Encoder(threads=2), [line_of_height(height) for height in (1, 2, 3, 4)]
    encoder.let.set()
    encoder.failures.update([1, 4, 4])
    encoder.want(lines[3])
    with pytest.raises(MemoryError):
        encoder.read(*lines)
    assert sorted(encoder.ended) == sorted(encoder.begun) == [1, 2, 3, 4]
    encoder.want(lines[3])
    with pytest.raises(MemoryError):
        encoder.read(lines[3])
    assert encoder.read(*lines) == [1, 2, 3, 4]


def recognizer_that_encodes_ahead(monkeypatch: pytest.MonkeyPatch) -> TrocrRecognizer:
    monkeypatch.setattr("worker.trocr_encoder._FEWEST_WEIGHTS_AHEAD", 1)
    return bundled_recognizer(LIMIT)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each encoding was of."""
    counts: list[int] = []
    preprocessed = Checkpoint.preprocessed

    def counted(checkpoint: Checkpoint, pictures: Sequence[LinePixels]) -> Tensor:
        counts.append(len(pictures))
        return preprocessed(checkpoint, pictures)

    monkeypatch.setattr(Checkpoint, "preprocessed", counted)
    return counts


def want(recognizer: TrocrRecognizer, lines: Sequence[LinePixels]) -> None:
    assert recognizer.ahead is not None
    recognizer.ahead.want([LineRequest(pixels=pixels) for pixels in lines])


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_lines_that_are_encoded_ahead_are_read_the_same_and_encoded_once(
    at_once: int, ahead: int, encodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_threads():
        recognizer = recognizer_that_encodes_ahead(monkeypatch)
        lines = some_lines(6)
        expected = generated(recognizer, lines, LIMIT)
        encodings.clear()
        want(recognizer, list(lines.values())[:ahead])
        wait_until(lambda: len(encodings) == ahead)
        read = read_all(recognizer, lines, at_once=at_once)
    assert {key: tokens for key, (tokens, _) in read.items()} == {key: line.tokens for key, line in expected.items()}
    assert encodings == [1] * 6


def test_the_batcher_has_lines_encoded_ahead(encodings: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, Recognition] = {}
    with two_threads():
        recognizer = recognizer_that_encodes_ahead(monkeypatch)
        lines = some_lines(9)
        encodings.clear()
        batcher = Batcher(
            recognizer,
            on_start=lambda _: None,
            on_settled=lambda *_: None,
            on_read=lambda line, recognition: read.update({line.key: recognition}),
            on_failed=lambda *_: None,
            observer=SilentObserver(),
        )
        for key, pixels in lines.items():
            request = LineRequest(pixels=pixels)
            batcher.submit(QueuedLine(key=key, request=request, priority=1, job_id="job", alone=False))
        batcher.turn()
        in_rows = batcher.in_rows
        wait_until(lambda: len(encodings) == in_rows + 4)
        while len(read) < 9:
            batcher.turn()
        alone = bundled_recognizer(LIMIT)
        for key, pixels in lines.items():
            assert read[key].tokens == read_all(alone, {key: pixels}, at_once=1)[key][0]
    assert encodings[:9] == [1] * 9


def test_each_line_gets_its_own_encoding_in_whatever_order_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_threads(), torch.inference_mode():
        recognizer = recognizer_that_encodes_ahead(monkeypatch)
        lines = list(some_lines(3).values())
        expected = recognizer._encoder.encoded(lines)
        want(recognizer, [lines[2], lines[0]])
        assert torch.equal(recognizer._encoder.encoded(lines), expected)
        want(recognizer, [lines[1]])
        assert torch.equal(recognizer._encoder.encoded([lines[1]]), expected[1:2])


def test_a_line_that_cannot_be_encoded_fails_when_it_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_threads():
        recognizer = recognizer_that_encodes_ahead(monkeypatch)
        bad = LineRequest(pixels=np.zeros((4, 4), np.uint8))
        want(recognizer, [bad.pixels])
        for _ in range(2):
            with pytest.raises(ValueError):
                recognizer.admit({"bad": bad})
        lines = some_lines(2)
        assert read_all(recognizer, lines, at_once=2) == read_all(recognizer, lines, at_once=2)


def test_a_line_that_is_needed_alone_is_encoded_before_those_that_are_only_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[int] = []
    let = threading.Event()
    preprocessed = Checkpoint.preprocessed

    def noted(checkpoint: Checkpoint, pictures: Sequence[LinePixels]) -> Tensor:
        order.append(pictures[0].shape[1])
        if threading.current_thread().name.startswith("encoder"):
            assert let.wait(20)
        return preprocessed(checkpoint, pictures)

    with two_threads():
        recognizer = recognizer_that_encodes_ahead(monkeypatch)
        monkeypatch.setattr(Checkpoint, "preprocessed", noted)
        *wanted, needed = some_lines(5).values()
        want(recognizer, wanted)
        wait_until(lambda: len(order) == 2)
        recognizer.admit({"needed": LineRequest(pixels=needed)})
        assert isinstance(recognizer.ahead, EncodedAhead)
        assert [recognizer.ahead.has_begun(line) for line in wanted] == [True, True, False, False]
        let.set()
        recognizer.ahead.forget()
    assert order == [*(line.shape[1] for line in wanted[:2]), needed.shape[1]]


@pytest.mark.parametrize(
    ("threads", "rows", "fewest_weights", "expected"),
    [(2, 8, 1, 4), (2, 3, 1, 3), (1, 8, 1, None), (2, 8, 10_000_000, None)],
)
def test_lines_are_encoded_ahead_by_large_encoders_and_spare_cores(
    threads: int, rows: int, fewest_weights: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.trocr_encoder._FEWEST_WEIGHTS_AHEAD", fewest_weights)
    with computing_with(threads, else_with=torch.get_num_threads()):
        ahead = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=rows).ahead
    assert (ahead and ahead.most) == expected
