"""What will run when: looks ahead, without Redis."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.timetable import Cron

# No zone has changed its clock twice within so short a time.
BETWEEN_CHANGES_SECONDS = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class ComingRun:
    """A tick to come, which is enqueued at `at`: with jitter, a moment later. Seconds since the epoch."""

    at: float
    tick: int
    schedule: Schedule


@dataclass(frozen=True, kw_only=True)
class ClockChange:
    """The clock of a zone is put forward or back at `at`, by `seconds`; before, it is `offset` ahead of UTC."""

    at: int
    offset: int
    seconds: int


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a clock change does to a schedule.

    Put forward: `skipped` are the local times that do not exist, in seconds as if they were UTC, and `next_tick` is
    the first tick after the change. Put back: so many ticks in the first and in the second pass of the repeated time.
    """

    change: ClockChange
    skipped: tuple[int, ...] = ()
    next_tick: int | None = None
    first_pass: int = 0
    second_pass: int = 0


def zone(schedule: Schedule) -> tzinfo:
    """Whose wall clock it goes by."""
    tz = schedule.timetable.tz if isinstance(schedule.timetable, Cron) else "UTC"
    return UTC if tz == "UTC" else ZoneInfo(tz)


def next_ticks(schedule: Schedule, *, after: float, count: int = 10) -> list[int]:
    return list(islice(schedule.timetable.ticks(after), count))


def coming_runs(schedules: Iterable[Schedule], *, after: float, until: float) -> Iterator[ComingRun]:
    """What is enqueued in (after, until], in order, of all that are enabled."""
    streams = [_coming(one, after) for one in schedules if one.enabled]
    merged = heapq.merge(*streams, key=lambda run: (run.at, run.schedule.name))
    return takewhile(lambda run: run.at <= until, merged)


def effects(schedule: Schedule, *, after: float, until: float) -> list[Effect]:
    """Of the clock changes of its zone in that time. None for intervals, which no clock change concerns."""
    timetable = schedule.timetable
    if not isinstance(timetable, Cron):
        return []
    return [_effect(timetable, change) for change in clock_changes(zone(schedule), after=after, until=until)]


def clock_changes(zone: tzinfo, *, after: float, until: float) -> Iterator[ClockChange]:
    start = int(after)
    while start < until:
        end = start + BETWEEN_CHANGES_SECONDS
        before, then = _offset(zone, start), _offset(zone, end)
        if before != then:
            yield ClockChange(at=_moment_of_change(zone, start, end), offset=before, seconds=then - before)
        start = end


def _coming(schedule: Schedule, after: float) -> Iterator[ComingRun]:
    delay = schedule.delay_seconds
    for tick in schedule.timetable.ticks(after - delay):
        yield ComingRun(at=tick + delay, tick=tick, schedule=schedule)


def _effect(timetable: Cron, change: ClockChange) -> Effect:
    if change.seconds > 0:
        wall_clock = Cron(expression=timetable.expression)
        start = change.at + change.offset
        skipped = _ticks(wall_clock, start, start + change.seconds)
        return Effect(change=change, skipped=skipped, next_tick=next(timetable.ticks(change.at - 1), None))
    length = -change.seconds
    first, second = (_ticks(timetable, start, start + length) for start in (change.at - length, change.at))
    return Effect(change=change, first_pass=len(first), second_pass=len(second))


def _ticks(timetable: Cron, start: int, end: int) -> tuple[int, ...]:
    """Those in [start, end)."""
    return tuple(takewhile(lambda tick: tick < end, timetable.ticks(start - 1)))


def _moment_of_change(zone: tzinfo, start: int, end: int) -> int:
    """The first second with the later offset."""
    before = _offset(zone, start)
    while end - start > 1:
        middle = (start + end) // 2
        if _offset(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


def _offset(zone: tzinfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0
