from typing import Any

import pytest

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.ticker import Ticker
from scaling_kit.scheduler.timetable import Cron, Interval
from scaling_kit.testing import wait_until
from tests.scheduler.queue import Task, ticks


@pytest.fixture
def lease() -> Lease:
    one = Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT))
    one.hold()
    return one


def a_schedule(name: str = "sweep", **options: Any) -> Schedule:
    return Schedule(**{"name": name, "task": Task(), "timetable": Interval(seconds=10), "overlap": "allow", **options})


def absent_since(lease: Lease, seconds: float, name: str = "sweep") -> int:
    """Forge the watermark that a leader left behind."""
    watermark = int(lease.now() - seconds)
    lease.client.hset(claim.state_key(name), "tick", watermark)
    return watermark


def ran(lease: Lease, schedule: Schedule) -> list[int]:
    Ticker(lambda: [schedule]).run(lease)
    return ticks("sweep")


def due(lease: Lease, watermark: int) -> list[int]:
    return [tick for tick in range(watermark + 1, int(lease.now()) + 1) if tick % 10 == 0]


def test_new_schedule__starts_now(lease: Lease) -> None:
    ticker = Ticker(lambda: [a_schedule()])
    assert 0 < ticker.run(lease) <= 10
    assert ticks("sweep") == []


def test_due__each_tick_once(lease: Lease) -> None:
    ticker = Ticker(lambda: [a_schedule(timetable=Interval(seconds=1))])
    wait_until(lambda: ticker.run(lease) and len(ticks("sweep")) >= 3)
    found = ticks("sweep")
    assert found == list(range(found[0], found[0] + len(found)))


def test_catch_up_latest__missed_ticks_become_one(lease: Lease) -> None:
    watermark = absent_since(lease, 95)
    assert ran(lease, a_schedule()) == due(lease, watermark)[-1:]


def test_catch_up_all__every_missed_tick_in_order(lease: Lease) -> None:
    watermark = absent_since(lease, 95)
    assert ran(lease, a_schedule(catch_up="all")) == due(lease, watermark)


def test_catch_up_all__is_limited_to_the_latest(lease: Lease, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.SCALING_KIT_SCHEDULER_CATCH_UP_LIMIT = 3
    watermark = absent_since(lease, 95)
    assert ran(lease, a_schedule(catch_up="all")) == due(lease, watermark)[-3:]
    assert "ticks dropped schedule=sweep" in caplog.text


def test_catch_up_skip__runs_no_missed_tick(lease: Lease) -> None:
    absent_since(lease, 3600 * 30)
    assert ran(lease, a_schedule(catch_up="skip", timetable=Interval(seconds=86400), grace_seconds=0.001)) == []


def test_grace__a_tick_later_than_that_is_dropped(lease: Lease) -> None:
    absent_since(lease, 95)
    recent = [tick for tick in ran(lease, a_schedule(catch_up="all", grace_seconds=30.0)) if tick > lease.now() - 35]
    assert ticks("sweep") == recent
    assert 2 <= len(recent) <= 4


def test_schedule_that_fails__does_not_hold_up_the_others(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    broken = [a_schedule("no-such-zone", timetable=Cron(expression="@daily", tz="Mars/Olympus"))]
    absent_since(lease, 95)
    Ticker(lambda: [*broken, a_schedule()]).run(lease)
    assert len(ticks("sweep")) == 1
    assert "tick failed schedule=no-such-zone" in caplog.text


def test_fenced__believes_no_longer_to_lead(lease: Lease) -> None:
    ticker = Ticker(lambda: [a_schedule(timetable=Interval(seconds=1))])
    ticker.run(lease)
    lease.client.set(lease.holder_key, "a rival")
    wait_until(lambda: ticker.run(lease) is not None and not lease.is_held)
    assert ticks("sweep") == []


def test_watermark_lost__starts_now(lease: Lease) -> None:
    absent_since(lease, 95)
    lease.client.delete(claim.state_key("sweep"))
    assert ran(lease, a_schedule(catch_up="all")) == []


def test_changed_timetable__keeps_the_watermark(lease: Lease) -> None:
    absent_since(lease, 95)
    first = ran(lease, a_schedule())
    found = ran(lease, a_schedule(timetable=Interval(seconds=5), catch_up="all"))
    assert found[:1] == first
    assert found == sorted(set(found))


def test_disabled__does_not_tick(lease: Lease) -> None:
    absent_since(lease, 95)
    assert ran(lease, a_schedule(enabled=False)) == []
