"""How many workers there should be: the policy by a clock that is passed in, and what it is fed with."""

import math
import time

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from rq.suspension import resume, suspend

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.autoscale import Bounds, Load, Policy, observe
from scaling_kit.jobs.transitions import claim
from tests.jobs import tasks
from tests.jobs.conftest import Queues

# The defaults: a latency of 1 s is too much, 30 s are quiet.
QUIET, LATENCY = 30.0, 1.0
CALM = Load()
LATE = Load(waiting=100, oldest_seconds=1.5)


def busy(count: int, **load: float) -> Load:
    return Load(busy=frozenset(map(str, range(count))), **load)  # type: ignore[arg-type]


def followed(policy: Policy, workers: int, seen: list[tuple[float, Load]]) -> list[int]:
    numbers = []
    for now, load in seen:
        workers = policy.wanted(now, load, workers)
        numbers.append(workers)
    return numbers


def test_late__twice_as_many_each_second_up_to_the_most() -> None:
    assert followed(Policy(Bounds(1, 7)), 1, [(second, LATE) for second in range(5)]) == [2, 4, 7, 7, 7]


def test_late__the_new_ones_are_given_time() -> None:
    assert followed(Policy(Bounds(1, 8)), 1, [(0, LATE), (0.5, LATE), (0.9, LATE), (1.0, LATE)]) == [2, 2, 2, 4]


def test_long_queue_that_moves_fast__needs_no_more() -> None:
    assert Policy(Bounds(1, 8)).wanted(0, busy(1, waiting=5000, oldest_seconds=0.9), 1) == 1


def test_one_job_late__one_more_is_enough() -> None:
    assert Policy(Bounds(1, 8)).wanted(0, busy(4, waiting=1, oldest_seconds=9), 4) == 5


def test_quiet__one_less_for_each_quiet_time() -> None:
    seen = [(float(second), CALM) for second in range(100)]
    numbers = followed(Policy(Bounds(1, 3)), 3, seen)
    assert [numbers.count(workers) for workers in (3, 2, 1)] == [30, 30, 40]


@pytest.mark.parametrize("interruption", [Load(waiting=1, oldest_seconds=0.1), busy(3)])
def test_quiet_but_for_one_moment__begins_anew(interruption: Load) -> None:
    seen = [(0.0, CALM), (29.0, interruption), (31.0, CALM), (60.0, CALM), (61.0, CALM)]
    assert followed(Policy(Bounds(1, 3)), 3, seen) == [3, 3, 3, 3, 2]


def test_quiet_with_every_worker_busy__none_is_to_spare() -> None:
    assert followed(Policy(Bounds(1, 3)), 3, [(float(second), busy(3)) for second in range(100)])[-1] == 3


def test_queues_out_of_sight__that_time_does_not_count_as_quiet() -> None:
    policy = Policy(Bounds(1, 3))
    policy.wanted(0, CALM, 3)
    policy.forget()
    assert followed(policy, 3, [(40.0, CALM), (69.0, CALM), (70.0, CALM)]) == [3, 3, 2]


def test_more_than_the_bounds_allow__is_cut() -> None:
    assert [Policy(Bounds(2, 4)).wanted(0, CALM, workers) for workers in (1, 9)] == [2, 4]


bounds = st.tuples(st.integers(1, 20), st.integers(0, 50)).map(lambda pair: Bounds(pair[0], sum(pair)))
loads = st.one_of(
    st.builds(busy, st.integers(0, 70)),
    st.builds(busy, st.integers(0, 70), waiting=st.integers(1, 10**6), oldest_seconds=st.floats(0, 1e6)),
)
steps = st.lists(st.tuples(st.floats(0.01, 40), loads), max_size=60)


@given(bounds=bounds, start=st.integers(1, 70), steps=steps)
def test_whatever_is_seen__within_the_bounds_and_never_hasty(
    bounds: Bounds, start: int, steps: list[tuple[float, Load]]
) -> None:
    policy, workers, now = Policy(bounds), bounds.clamp(start), 0.0
    raised_at = lowered_at = -math.inf
    for seconds, load in steps:
        now += seconds
        before, workers = workers, policy.wanted(now, load, workers)
        assert bounds.least <= workers <= bounds.most
        if workers > before:
            assert load.oldest_seconds > LATENCY
            assert workers <= min(2 * before, load.waiting + len(load.busy))
            assert now - raised_at >= LATENCY
            raised_at = now
        if workers < before:
            assert workers == before - 1
            assert load.waiting == 0
            assert now - max(raised_at, lowered_at) >= QUIET
            lowered_at = now


@given(bounds=bounds, start=st.integers(1, 70))
def test_burst_then_quiet__up_to_the_most_and_back_to_the_least(bounds: Bounds, start: int) -> None:
    policy, workers = Policy(bounds), bounds.clamp(start)
    seconds_up = math.ceil(math.log2(bounds.most / bounds.least)) + 1
    up = followed(policy, workers, [(float(now), LATE) for now in range(seconds_up)])
    assert up[-1] == min(bounds.most, 100)
    steps_down = bounds.most - bounds.least + 1
    down = followed(policy, up[-1], [(seconds_up + QUIET * step, CALM) for step in range(steps_down)])
    assert down[-1] == bounds.least


def test_observed__age_of_the_oldest_of_every_priority_and_who_is_busy(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.low, priority=5).enqueue("ran")
    time.sleep(0.05)
    tasks.append.using(queue_name=queues.default).enqueue("ran")
    tasks.append.using(queue_name=queues.high).enqueue("ran")
    assert claim(queues.names, "test-w1", "e1")
    load = observe(queues.names, ["test-w1", "test-w2"])
    assert (load.waiting, load.busy) == (2, frozenset({"test-w1"}))
    assert 0.05 <= load.oldest_seconds < 5


def test_observed__what_nobody_may_take_does_not_wait(queues: Queues) -> None:
    redis = places.connection(queues.default)
    tasks.append.using(queue_name=queues.default).enqueue("ran")
    redis.sadd(places.paused_key(), queues.default)
    assert observe(queues.names) == CALM
    redis.srem(places.paused_key(), queues.default)
    assert observe(queues.names).waiting == 1
    suspend(redis)
    try:
        assert observe(queues.names) == CALM
    finally:
        resume(redis)


def test_observed__malformed_jobs_have_no_age(queues: Queues) -> None:
    redis = places.connection(queues.default)
    for name, value in zip(queues.names, ("a list", "no moment", ""), strict=True):
        redis.rpush(places.queue_key(name), f"{name}-job")
        if value == "a list":
            redis.rpush(places.job_key(f"{name}-job"), value)
        elif value:
            redis.hset(places.job_key(f"{name}-job"), "enqueued_at", value)
    assert observe(queues.names) == Load(waiting=3)


@pytest.mark.parametrize("text", ["4", "0:4", "4:1", "1:", "a:b", "-1:2", "1:2:3"])
def test_bounds_that_make_no_sense__one_clear_line(text: str) -> None:
    with pytest.raises(CommandError, match=f"'{text}' is not MIN:MAX"):
        call_command("runworkers", f"--autoscale={text}")


@pytest.mark.parametrize(
    ("other", "message"), [("--processes=2", "not allowed with argument"), ("--burst", "it goes with --processes")]
)
def test_autoscale_with_what_contradicts_it__refused(other: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("runworkers", "--autoscale=1:4", other)


@override_settings(SCALING_KIT_JOBS_AUTOSCALE_LATENCY_SECONDS=0.2, SCALING_KIT_JOBS_AUTOSCALE_QUIET_SECONDS=1.0)
def test_settings__are_heeded() -> None:
    seen = [(0.0, Load(waiting=9, oldest_seconds=0.3)), (0.1, CALM), (1.2, CALM)]
    assert followed(Policy(Bounds(1, 4)), 2, seen) == [4, 4, 3]
