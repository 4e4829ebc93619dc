"""Schedules, their runs and their times in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from scaling_kit.scheduler import outlook
from scaling_kit.scheduler.outlook import Effect
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.status import Run
from scaling_kit.scheduler.timetable import ALIASES, Cron

YEAR_SECONDS = 366 * 24 * 3600


def utc(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def local(epoch: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(epoch, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def when(schedule: Schedule) -> str:
    """Its timetable as a sentence."""
    timetable = schedule.timetable
    if not isinstance(timetable, Cron):
        return f"{str(timetable).capitalize()}, counted from 1970-01-01 00:00:00Z"
    from cronsim import CronSim

    expression = ALIASES.get(timetable.expression.strip().lower(), timetable.expression)
    return f"{CronSim(expression, datetime.fromtimestamp(0, UTC)).explain()} ({timetable.tz})"


def task(schedule: Schedule) -> str:
    """Its dotted path, as far as the task says it."""
    one = schedule.task
    of = one if hasattr(one, "__qualname__") else type(one)
    return str(getattr(one, "module_path", None) or f"{of.__module__}.{of.__qualname__}")


def options(schedule: Schedule) -> str:
    grace = "no limit" if schedule.grace_seconds is None else f"{schedule.grace_seconds:g} s"
    return (
        f"catch_up={schedule.catch_up} overlap={schedule.overlap} grace={grace} "
        f"jitter={schedule.jitter_seconds:g} s enabled={schedule.enabled}"
    )


def clock_changes(schedule: Schedule, now: float) -> Iterator[str]:
    """What the clock changes of the year to come do to it."""
    if not isinstance(schedule.timetable, Cron):
        yield "none matters to it: it counts seconds"
        return
    found = outlook.effects(schedule, after=now, until=now + YEAR_SECONDS)
    if not found:
        yield f"none within a year in {schedule.timetable.tz}"
    for effect in found:
        yield f"{utc(effect.change.at)}: {_effect(effect, outlook.zone(schedule))}"


def run(one: Run, status: str | None, zone: tzinfo) -> str:
    by_hand = "  by hand" if one.is_by_hand else ""
    return f"{utc(one.tick)}  {local(one.tick, zone)}  {one.job_id}  {status or 'not kept'}{by_hand}"


def _effect(effect: Effect, zone: tzinfo) -> str:
    change = effect.change
    before, after = change.at + change.offset, change.at + change.offset + change.seconds
    if change.seconds > 0:
        moved = f"the clock goes from {_clock(before)} to {_clock(after)}"
        if not effect.skipped:
            return f"{moved}, none of its times is skipped"
        then = "never again" if effect.next_tick is None else local(effect.next_tick, zone)
        return f"{moved}, skipping {_times(effect.skipped)}; it runs at {then} instead"
    moved = f"the clock goes back from {_clock(before)} to {_clock(after)}"
    if not effect.first_pass + effect.second_pass:
        return f"{moved}, none of its times is repeated"
    return f"{moved}; runs in the first pass: {effect.first_pass}, in the second: {effect.second_pass}"


def _times(walls: Sequence[int]) -> str:
    shown = ", ".join(_clock(wall) for wall in walls[:3])
    return shown if len(walls) <= 3 else f"{shown} and {len(walls) - 3} more"


def _clock(wall: int) -> str:
    moment = datetime.fromtimestamp(wall, UTC)
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
