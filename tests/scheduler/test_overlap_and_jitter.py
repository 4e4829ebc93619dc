"""`overlap="hold"`, `jitter_seconds`, and many schedules in one round trip."""

from itertools import pairwise
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.schedule import InvalidScheduleError, Schedule
from scaling_kit.scheduler.ticker import Ticker
from scaling_kit.scheduler.timetable import Interval
from scaling_kit.testing import wait_until
from tests.scheduler.queue import Task, finish, ticks, waiting
from tests.scheduler.test_ticker import absent_since


@pytest.fixture
def lease() -> Lease:
    one = Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT))
    one.hold()
    return one


def a_schedule(name: str = "sweep", **options: Any) -> Schedule:
    return Schedule(**{"name": name, "task": Task(), "timetable": Interval(seconds=1), "overlap": "allow", **options})


def test_hold__the_tick_waits_for_the_job_before_it(lease: Lease) -> None:
    ticker = Ticker(lambda: [a_schedule(overlap="hold", catch_up="all")])
    wait_until(lambda: ticker.run(lease) is not None and waiting("sweep"))
    wait_until(lambda: ticker.run(lease) is not None and lease.now() > ticks("sweep")[0] + 2.2)
    assert len(ticks("sweep")) == 1, "two more were due"
    finish(waiting("sweep")[0])
    wait_until(lambda: ticker.run(lease) is not None and len(ticks("sweep")) == 2)
    assert ticks("sweep")[1] == ticks("sweep")[0] + 1, "catch_up=all: the next one, not the latest"


def test_hold_and_latest__those_held_meanwhile_become_one(lease: Lease) -> None:
    ticker = Ticker(lambda: [a_schedule(overlap="hold")])
    wait_until(lambda: ticker.run(lease) is not None and waiting("sweep"))
    wait_until(lambda: ticker.run(lease) is not None and lease.now() > ticks("sweep")[0] + 3.2)
    finish(waiting("sweep")[0])
    wait_until(lambda: ticker.run(lease) is not None and len(ticks("sweep")) == 2)
    assert ticks("sweep")[1] - ticks("sweep")[0] >= 3


def test_hold__is_told_once_and_not_at_each_look(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ticker = Ticker(lambda: [a_schedule(overlap="hold")])
    wait_until(lambda: ticker.run(lease) is not None and waiting("sweep"))
    wait_until(lambda: ticker.run(lease) is not None and lease.now() > ticks("sweep")[0] + 3.2)
    assert caplog.text.count("outcome=held") == 1


def test_jitter__each_tick_so_much_later_and_none_is_left_out(lease: Lease) -> None:
    schedule = a_schedule(jitter_seconds=0.9, catch_up="all")
    assert 0 < schedule.delay_seconds < 0.9
    ticker = Ticker(lambda: [schedule])
    late = []

    def three() -> bool:
        before = len(ticks("sweep"))
        ticker.run(lease)
        late.extend(lease.now() - tick for tick in ticks("sweep")[before:])
        return len(late) >= 3

    wait_until(three)
    assert min(late) >= schedule.delay_seconds
    assert [later - earlier for earlier, later in pairwise(ticks("sweep"))] == [1] * (len(late) - 1)


def test_jitter__is_drawn_from_the_name() -> None:
    delays = {a_schedule(f"sweep-{number}", jitter_seconds=60).delay_seconds for number in range(100)}
    assert len(delays) == 100
    assert 15 < sum(delays) / 100 < 45
    assert a_schedule(jitter_seconds=60).delay_seconds == a_schedule(jitter_seconds=60).delay_seconds
    assert a_schedule().delay_seconds == 0


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_jitter_that_is_none__is_refused(value: float) -> None:
    with pytest.raises(InvalidScheduleError, match="jitter_seconds"):
        a_schedule(jitter_seconds=value).validate()


def test_more_schedules_than_a_round_trip_takes__each_is_claimed_once(lease: Lease) -> None:
    schedules = [a_schedule(f"many-{number}", timetable=Interval(seconds=10)) for number in range(600)]
    for schedule in schedules:
        absent_since(lease, 20, schedule.name)
    calls = lease.client.info("commandstats").get("cmdstat_script|load", {"calls": 0})["calls"]
    Ticker(lambda: schedules).run(lease)
    found = waiting("many")
    assert (len(found), len(set(found))) == (600, 600)
    assert lease.client.info("commandstats")["cmdstat_script|load"]["calls"] - calls == 3, "round trips of claims"


def test_redis_error_for_one__does_not_hold_up_the_others(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    schedules = [a_schedule("spoilt", timetable=Interval(seconds=10)), a_schedule(timetable=Interval(seconds=10))]
    for schedule in schedules:
        absent_since(lease, 20, schedule.name)
    lease.client.set(claim.history_key("spoilt"), "no sorted set")
    Ticker(lambda: schedules).run(lease)
    assert len(ticks("sweep")) == 1
    assert "tick failed schedule=spoilt" in caplog.text


def test_redis_takes_no_writes__is_nobody_s_own_failure_and_all_are_still_due(
    lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    schedules = [a_schedule(f"many-{number}", timetable=Interval(seconds=10)) for number in range(3)]
    for schedule in schedules:
        absent_since(lease, 20, schedule.name)
    ticker = Ticker(lambda: schedules)
    ticker._stay_up_to_date(lease)
    lease.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            ticker.run(lease)
    finally:
        lease.client.config_set("maxmemory", 0)
    ticker.run(lease)
    assert len(waiting("many")) == 3
    assert "tick failed" not in caplog.text


def test_connection_lost_in_mid_run__what_was_due_is_still_due(lease: Lease) -> None:
    schedules = [a_schedule(f"many-{number}", timetable=Interval(seconds=10)) for number in range(300)]
    for schedule in schedules:
        absent_since(lease, 20, schedule.name)
    ticker = Ticker(lambda: schedules)
    for killed in lease.client.client_list():
        lease.client.client_kill_filter(_id=killed["id"], skipme=True)
    ticker.run(lease)
    assert len(set(waiting("many"))) == len(waiting("many")) == 300


def test_revision_that_changes__has_the_schedules_read_anew(lease: Lease) -> None:
    current: list[Schedule] = []
    revisions = iter(["1", "1", "2", *["2"] * 1000])
    ticker = Ticker(lambda: list(current), lambda _client: next(revisions))
    ticker.run(lease)
    current.append(a_schedule())
    wait_until(lambda: ticker.run(lease) is not None and ticks("sweep"))
