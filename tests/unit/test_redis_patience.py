from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis_address import Patience
from tests.clocks import Clock


@pytest.mark.parametrize("failure", [RedisTimeoutError(), RedisConnectionError(), OperationalError(), OSError()])
def test_a_redis_that_failed_to_answer_is_left_alone_for_a_second(failure: Exception) -> None:
    clock = Clock()
    patience = Patience(clock)
    with pytest.raises(RedisError), patience.asking():
        raise failure
    asked = []
    for _ in range(3):
        clock.pass_time(0.3)
        with pytest.raises(RedisError), patience.asking():
            asked.append(clock.now_s)
    assert not asked
    clock.pass_time(0.2)
    with patience.asking():
        asked.append(clock.now_s)
    assert len(asked) == 1


def test_one_asks_for_all_whether_redis_is_back() -> None:
    clock = Clock()
    patience = Patience(clock)
    with pytest.raises(RedisError), patience.asking():
        raise RedisTimeoutError
    clock.pass_time(1.0)
    assert not patience.is_exhausted
    with patience.asking(), pytest.raises(RedisError), patience.asking():
        raise AssertionError("a second one asks as well")
    assert not patience.is_exhausted
    for _ in range(2):
        with patience.asking(), patience.asking():
            pass


def test_whoever_only_looks_sees_that_it_would_not_be_asked() -> None:
    clock = Clock()
    patience = Patience(clock)
    with pytest.raises(RedisError), patience.asking():
        assert not patience.is_exhausted
        raise RedisTimeoutError
    assert patience.is_exhausted
    clock.pass_time(1.0)
    with patience.asking():
        assert patience.is_exhausted
    assert not patience.is_exhausted


def test_what_is_no_failure_of_redis_passes_and_changes_nothing() -> None:
    patience = Patience(Clock())
    with pytest.raises(LookupError), patience.asking():
        raise LookupError
    with patience.asking():
        pass
