"""Timetables against a brute force that shares no code with them, around clock changes in all kinds of zones."""

from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaling_kit.scheduler.timetable import Cron, Interval, InvalidTimetableError, latest
from tests.scheduler.crontab import ZONES, Crontab, brute_force, crontabs, moments

zones = st.sampled_from(ZONES).map(ZoneInfo)


@st.composite
def askings(draw: st.DrawFn) -> tuple[Crontab, ZoneInfo, int]:
    """A cron expression, a zone, and since when the ticks are asked for."""
    zone = draw(zones)
    return draw(crontabs()), zone, draw(moments(zone))


def end_of_window(crontab: Crontab, after: int) -> int:
    return after + 3600 * (2 if crontab.second else 30)


def ticking(crontab: Crontab, zone: ZoneInfo) -> Cron:
    return Cron(expression=str(crontab), tz=zone.key)


@settings(max_examples=2 * settings().max_examples)
@given(askings())
def test_ticks__are_those_of_a_walk_through_every_minute(asking: tuple[Crontab, ZoneInfo, int]) -> None:
    crontab, zone, after = asking
    until = end_of_window(crontab, after)
    expected = brute_force(crontab, zone, after, until)
    try:
        found = list(takewhile(lambda tick: tick <= until, ticking(crontab, zone).ticks(after)))
    except Exception:
        with pytest.raises(InvalidTimetableError, match="in a month that has that day"):
            ticking(crontab, zone).validate()
        found = []
    assert found == expected


@given(askings(), st.integers(1, 12))
def test_latest__is_the_end_of_that_walk(asking: tuple[Crontab, ZoneInfo, int], limit: int) -> None:
    crontab, zone, after = asking
    until = end_of_window(crontab, after)
    expected = brute_force(crontab, zone, after, until)[-limit:]
    if expected:
        assert latest(ticking(crontab, zone), after=after, until=until, limit=limit) == expected


@given(askings())
def test_ticks__are_later_in_order_and_the_same_after_a_restart_at_any_of_them(
    asking: tuple[Crontab, ZoneInfo, int],
) -> None:
    crontab, zone, after = asking
    timetable = ticking(crontab, zone)
    try:
        ticks = [after, *islice(timetable.ticks(after), 6)]
    except Exception:
        with pytest.raises(InvalidTimetableError):
            timetable.validate()
        return
    for tick, following in pairwise(ticks):
        assert tick < following
        assert next(timetable.ticks(tick)) == next(timetable.ticks(following - 1)) == following


@given(st.integers(1, 10**7), st.floats(0, 2**32), st.floats(0, 10**8))
@example(seconds=1, after=0.0, further=0.5)
def test_interval__no_drift_and_the_same_ticks_for_whoever_asks(seconds: int, after: float, further: float) -> None:
    timetable = Interval(seconds=seconds)
    ticks = list(islice(timetable.ticks(after), 5))
    assert after < ticks[0] <= after + seconds
    assert [following - tick for tick, following in pairwise(ticks)] == [seconds] * 4
    assert all(tick % seconds == 0 for tick in ticks), "counted from the epoch, whenever the process started"
    until = after + further
    last = until // seconds * seconds
    assert latest(timetable, after=after, until=until, limit=1) == ([last] if last > after else [])
