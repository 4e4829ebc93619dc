"""Who computes an entry, when, and who waits."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.test import override_settings

from scaling_kit import members
from scaling_kit.cache import entries, marks, readings, signals, staleness, tags, turns, unsent
from scaling_kit.cache.entries import Computed, Served
from scaling_kit.cache.readings import Address, Header, Reading
from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import wait_until

MANY = 12


@pytest.fixture(autouse=True)
def nothing_open() -> None:
    turns._open.clear()
    staleness._written_at.clear()


class Computation:
    """Counts its calls, and does in each what the list says."""

    def __init__(self, *steps: Callable[[], Any], seconds: float = 0.1, refusal: str = "") -> None:
        self.steps = list(steps)
        self.calls = 0
        self._seconds = seconds
        self._refusal = refusal
        self._lock = threading.Lock()

    def __call__(self) -> Computed[str]:
        with self._lock:
            self.calls += 1
            number = self.calls
        time.sleep(self._seconds)
        if number <= len(self.steps):
            self.steps[number - 1]()
        return Computed(value=f"value {number}", payload=f"value {number}".encode(), refusal=self._refusal)


def address(name: str = "here") -> Address:
    return entries.address("tests.turns", name)


def serve(compute: Callable[[], Computed[str]], *, timeout: float = 60.0, stale: float = 0.0) -> Served[str]:
    return entries.serve(
        address(),
        compute,
        bytes.decode,
        timeout_seconds=timeout,
        stale_seconds=stale,
        depends_on=frozenset({"name.news"}),
    )


def at_once(compute: Callable[[], Computed[str]], **options: Any) -> list[Any]:
    def one(_: int) -> Any:
        try:
            return serve(compute, **options)
        except ZeroDivisionError as error:
            return error

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(one, range(MANY)))


def fail() -> None:
    raise ZeroDivisionError


def test_misses_at_once__one_computes() -> None:
    compute = Computation()
    served = at_once(compute)
    assert compute.calls == 1
    assert Counter(one.status for one in served) == {"miss": 1, "hit": MANY - 1}


def test_computation_fails__the_next_one_takes_its_turn() -> None:
    compute = Computation(fail, fail)
    served = at_once(compute)
    assert compute.calls == 3
    assert len([one for one in served if isinstance(one, ZeroDivisionError)]) == 2
    assert Counter(one.status for one in served if isinstance(one, Served)) == {"miss": 1, "hit": MANY - 3}


def test_nothing_to_store__they_do_not_compute_one_after_the_other() -> None:
    compute = Computation(refusal="cookie", seconds=0.2)
    started = time.monotonic()
    assert all(one.status == "bypass;cookie" for one in at_once(compute))
    assert time.monotonic() - started < 0.2 * 4, "the first one, then all the others"
    started = time.monotonic()
    at_once(compute)
    assert time.monotonic() - started < 0.2 * 3, "nobody waits any more"


@override_settings(SCALING_KIT_CACHE_LEASE_SECONDS=0.3)
def test_computation_hangs__the_others_wait_no_longer_than_the_lease() -> None:
    hanging = threading.Event()
    compute = Computation(lambda: hanging.wait(20), seconds=0.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(serve, compute)
        wait_until(lambda: compute.calls)
        started = time.monotonic()
        assert serve(compute).value == "value 2"
        assert time.monotonic() - started < 5
        hanging.set()
        assert first.result().value == "value 1"
    assert serve(compute).status == "hit"


def test_something_cached_that_calls_itself__does_not_wait_for_itself() -> None:
    inner = Computation()
    outer = Computation(lambda: serve(inner))
    started = time.monotonic()
    assert serve(outer).value == "value 1"
    assert time.monotonic() - started < 1


def test_changed__one_computes_while_the_others_get_the_old_answer() -> None:
    serve(Computation(), stale=30)
    tags.bump({"name.news"})  # as another process does
    compute = Computation(seconds=0.5)
    served = at_once(compute, stale=30)
    assert Counter(one.status for one in served) == {"miss": 1, "stale": MANY - 1}
    assert {one.value for one in served} == {"value 1"}
    assert compute.calls == 1


def changed_here() -> None:
    unsent.bump({"name.news"})


def changed_after_a_while_of_no_reads() -> None:
    for entry in staleness._right_at:
        staleness._right_at[entry] -= 31
    tags.bump({"name.news"})


def lost() -> None:
    tags.bump({"name.news"})
    client(Purpose.SCRIPT).delete(key("cache", "tag", "name.news"))


@pytest.mark.parametrize("change", [changed_here, changed_after_a_while_of_no_reads, lost])
def test_may_be_wrong_for_too_long__nobody_gets_the_old_answer(change: Callable[[], None]) -> None:
    serve(Computation(), stale=30)
    change()
    assert Counter(one.status for one in at_once(Computation(), stale=30)) == {"miss": 1, "hit": MANY - 1}


def test_commit_in_flight__computed_and_not_waited_for() -> None:
    serve(Computation(), stale=30)
    assert marks.put({"name.news"}).is_set
    assert {one.status for one in at_once(Computation(), stale=30)} == {"bypass;commit"}


@pytest.mark.parametrize("lost", [tags.EPOCH, tags.of_view("tests.turns")])
def test_everything_forgotten__nobody_gets_the_old_answer(lost: str) -> None:
    serve(Computation(), stale=30)
    tags.bump({lost})
    assert Counter(one.status for one in at_once(Computation(), stale=30)) == {"miss": 1, "hit": MANY - 1}


def test_part_of_another_entry__is_never_stale() -> None:
    serve(Computation(), stale=30)
    tags.bump({"name.news"})
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(serve, Computation(seconds=0.5))
        wait_until(lambda: readings.read(address()).claimed)
        inner: list[str] = []
        entries.serve(
            address("outer"),
            lambda: (inner.append(serve(Computation(), stale=30).status), Computed(value=1, payload=b"1"))[1],
            bytes.decode,  # type: ignore[arg-type]
            timeout_seconds=60,
        )
        elsewhere.result()
    assert inner == ["hit"]


def test_at_its_end__is_kept_for_those_who_take_the_old_answer_and_for_nobody_else() -> None:
    serve(Computation(), timeout=0.2, stale=30)
    time.sleep(0.25)
    reading = readings.read(address())
    assert reading.payload is None
    assert reading.outdated == b"value 1"
    assert {one.status for one in at_once(Computation(), stale=0.01)} == {"miss", "hit"}, "too old for these"
    readings.forget(address())
    serve(Computation(), timeout=0.2, stale=30)
    time.sleep(0.25)
    assert Counter(one.status for one in at_once(Computation(), stale=30)) == {"miss": 1, "stale": MANY - 1}


def reading(*, expires_in: float, took: float) -> Reading:
    header = Header(1, 1000.0 + expires_in, 0.0, took, ("*",))
    return Reading(sequence=1, asked_at=0.0, payload=b"", header=header)


def share_due(**about: float) -> float:
    one = reading(**about)
    return sum(one.is_due(1000.0) for _ in range(2000)) / 2000


def test_near_its_end__the_more_often_computed_early_the_longer_it_takes() -> None:
    assert share_due(expires_in=300, took=0.1) == 0
    assert share_due(expires_in=1, took=0.1) < 0.01
    assert 0.2 < share_due(expires_in=1, took=1) < 0.5  # e^-1
    assert share_due(expires_in=0, took=0.1) == 1
    assert share_due(expires_in=-1, took=0.1) == 0, "Redis has it: our clock is ahead of the one who stored it"


def test_computed_early__by_one_and_the_others_do_not_wait() -> None:
    serve(Computation(), timeout=60)
    found = readings.read(address())
    assert found.header is not None
    near = replace(found.header, expires_at=time.time() + 5, took_seconds=100_000)
    client(Purpose.SCRIPT).set(readings.entry_key(address()), near.encode() + b"\nold", px=60_000)
    compute = Computation(seconds=0.5)
    started = time.monotonic()
    served = at_once(compute)
    assert Counter(one.status for one in served) == {"miss": 1, "hit": MANY - 1}
    assert Counter(one.value for one in served) == {"value 1": 1, "old": MANY - 1}
    assert time.monotonic() - started < 2


def test_counted_by_family_and_told() -> None:
    told: list[dict[str, Any]] = []

    def hear(**about: Any) -> None:
        told.append(about)

    signals.cache_hit.connect(hear)
    signals.cache_missed.connect(hear)
    members._take_counts()
    try:
        serve(Computation(seconds=0))
        serve(Computation(seconds=0))
        serve(Computation(seconds=0))
    finally:
        signals.cache_hit.disconnect(hear)
        signals.cache_missed.disconnect(hear)
    counted = members._take_counts()
    assert counted["cache.hit:tests.turns"] == counted["cache.hit"] == 2
    assert counted["cache.miss:tests.turns"] == counted["cache.miss"] == 1
    assert [one["signal"] for one in told] == [signals.cache_missed, *[signals.cache_hit] * 2]
    assert {one["family"] for one in told} == {"tests.turns"}
