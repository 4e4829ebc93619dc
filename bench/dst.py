"""What four schedulers do when clocks are changed: the cases of tests/scheduler/test_dst.py, as a Markdown table.

    pip install apscheduler croniter rq && python bench/dst.py

Computes only; what is not installed is left out. A tick is shown as the day and time in UTC; `=` is what the kit does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from scaling_kit.scheduler.timetable import Cron
from tests.scheduler.test_dst import EVERY_HOUR, FIVE_FIELDS, RESTARTS, utc

Ticks = Callable[[str, str, int], Iterator[int]]
MOST_TICKS = 200  # of one day; a library may never get past a clock change


def kit(expression: str, tz: str, after: int) -> Iterator[int]:
    return Cron(expression=expression, tz=tz).ticks(after)


def cronsim(expression: str, tz: str, after: int) -> Iterator[int]:
    from cronsim import CronSim

    for moment in CronSim(expression, datetime.fromtimestamp(after, ZoneInfo(tz))):
        yield int(moment.timestamp())


def croniter(expression: str, tz: str, after: int) -> Iterator[int]:
    from croniter import croniter

    schedule = croniter(expression, datetime.fromtimestamp(after, ZoneInfo(tz)))
    while True:
        yield int(schedule.get_next(datetime).timestamp())


def apscheduler(expression: str, tz: str, after: int) -> Iterator[int]:
    from apscheduler.triggers.cron import CronTrigger

    trigger = CronTrigger.from_crontab(expression, timezone=ZoneInfo(tz))
    fired, now = None, datetime.fromtimestamp(after + 1, ZoneInfo(tz))
    while True:
        fired = now = trigger.get_next_fire_time(fired, now)
        yield int(fired.timestamp())


def rq(expression: str, tz: str, after: int) -> Iterator[int]:
    """It knows the time zone of its process only."""
    from rq.cron import CronJob

    os.environ["TZ"] = tz
    time.tzset()
    job = CronJob(func=print, queue_name="default", cron=expression)
    job.latest_enqueue_time = datetime.fromtimestamp(after, UTC)
    while True:
        job.latest_enqueue_time = job.get_next_enqueue_time()
        yield int(job.latest_enqueue_time.timestamp())


PEERS: dict[str, Ticks] = {"cronsim": cronsim, "croniter": croniter, "APScheduler": apscheduler, "rq": rq}


def main() -> None:
    peers = {name: ticks for name, ticks in PEERS.items() if _is_installed(name)}
    print("| case | expression, zone, day |", " | ".join(["kit", *(f"{name} {version(name)}" for name in peers)]), "|")
    print("|---|---|---|" + "---|" * len(peers))
    for name, expression, tz, day, _ in FIVE_FIELDS:
        _row(name, f"`{expression}` {tz} {day}", [_day(ticks, expression, tz, day) for ticks in (kit, *peers.values())])
    for tz, day, _ in EVERY_HOUR:
        counts = [_count(ticks, "*/15 * * * *", tz, day) for ticks in (kit, *peers.values())]
        _row("ticks of that day", f"`*/15 * * * *` {tz} {day}", counts)
    for expression, tz, restart, _ in RESTARTS:
        found = [_next(ticks, expression, tz, utc(restart)) for ticks in (kit, *peers.values())]
        _row("restart in the second pass", f"`{expression}` {tz} {restart}Z", found)


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _row(name: str, case: str, found: list[str]) -> None:
    ours, *theirs = found
    print("|", " | ".join([name, case, ours, *("=" if one == ours else one for one in theirs)]), "|")


def _day(ticks: Ticks, expression: str, tz: str, day: str) -> str:
    return ", ".join(_show(tick) for tick in _on_day(ticks, expression, tz, day)) or "none"


def _count(ticks: Ticks, expression: str, tz: str, day: str) -> str:
    found = _on_day(ticks, expression, tz, day)
    return f"{len(found)}" if len(found) < MOST_TICKS else "no end"


def _next(ticks: Ticks, expression: str, tz: str, after: int) -> str:
    tick = next(ticks(expression, tz, after))
    return _show(tick) if tick > after else f"{_show(tick)}, which is past"


def _on_day(ticks: Ticks, expression: str, tz: str, day: str) -> list[int]:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(tz))
    end = (start + timedelta(days=1)).timestamp()
    found = ticks(expression, tz, int(start.timestamp()) - 1)
    return list(takewhile(lambda tick: tick < end, islice(found, MOST_TICKS)))


def _show(tick: int) -> str:
    return datetime.fromtimestamp(tick, UTC).strftime("%d %H:%M")


if __name__ == "__main__":
    main()
