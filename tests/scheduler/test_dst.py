"""What ticks when clocks are changed. The same cases, asked of other libraries: bench/dst.py."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from scaling_kit.scheduler.timetable import Cron

NEW_YORK, LONDON, LORD_HOWE, APIA = "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Apia"
SANTIAGO, BEIRUT = "America/Santiago", "Asia/Beirut"

FIVE_FIELDS = [
    # Spring: 02:00-03:00 is skipped (Lord Howe: 02:00-02:30; Apia: all of 30 December 2011).
    ("fixed time in the gap: once, at its end", "30 2 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
    ("fixed time in the gap: once, at its end", "30 1 * * *", LONDON, "2026-03-29", ["29 01:00"]),
    ("fixed time in the gap: once, at its end", "15 2 * * *", LORD_HOWE, "2026-10-04", ["03 15:30"]),
    ("fixed time just after a gap of half an hour", "30 2 * * *", LORD_HOWE, "2026-10-04", ["03 15:30"]),
    ("fixed time of the skipped day: when the next begins", "0 12 * * *", APIA, "2011-12-31", ["30 10:00", "30 22:00"]),
    ("fixed time on the day before the skipped one", "0 12 * * *", APIA, "2011-12-29", ["29 22:00"]),
    ("fixed weekday that was skipped", "0 12 * * FRI", APIA, "2011-12-31", ["30 10:00"]),
    ("fixed times in the gap and at its end: once", "0 2,3 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
    ("two fixed times in the gap: once", "15,45 2 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
    ("wildcard in an hour that is skipped: not", "*/20 2 * * *", NEW_YORK, "2026-03-08", []),
    ("wildcard in half an hour that is left", "*/15 2 * * *", LORD_HOWE, "2026-10-04", ["03 15:30", "03 15:45"]),
    ("wildcard at a midnight that is skipped: not", "*/20 0 * * *", SANTIAGO, "2026-09-06", []),
    ("fixed time at a midnight that is skipped", "0 0 * * *", BEIRUT, "2026-03-29", ["28 22:00"]),
    # Autumn: 01:00-02:00 comes twice (Lord Howe: 01:30-02:00).
    ("fixed time that comes twice: the first", "30 1 * * *", NEW_YORK, "2026-11-01", ["01 05:30"]),
    ("fixed time that comes twice: the first", "30 1 * * *", LONDON, "2026-10-25", ["25 00:30"]),
    ("fixed time that comes twice: the first", "45 1 * * *", LORD_HOWE, "2026-04-05", ["04 14:45"]),
    ("fixed times that come twice, and later", "30 1,3 * * *", NEW_YORK, "2026-11-01", ["01 05:30", "01 08:30"]),
    (
        "wildcard in an hour that comes twice: in both",
        "*/20 1 * * *",
        NEW_YORK,
        "2026-11-01",
        ["01 05:00", "01 05:20", "01 05:40", "01 06:00", "01 06:20", "01 06:40"],
    ),
    (
        "wildcard in half an hour that comes twice: in both",
        "*/15 1 * * *",
        LORD_HOWE,
        "2026-04-05",
        ["04 14:00", "04 14:15", "04 14:30", "04 14:45", "04 15:00", "04 15:15"],
    ),
    (
        "wildcard just after half an hour that came twice",
        "*/15 2 * * *",
        LORD_HOWE,
        "2026-04-05",
        ["04 15:30", "04 15:45", "04 16:00", "04 16:15"],
    ),
]
EVERY_HOUR = [
    (NEW_YORK, "2026-03-08", 23),
    (NEW_YORK, "2026-11-01", 25),
    (LONDON, "2026-03-29", 23),
    (LONDON, "2026-10-25", 25),
    (LORD_HOWE, "2026-10-04", 23.5),
    (LORD_HOWE, "2026-04-05", 24.5),
    (APIA, "2011-12-29", 24),
    (APIA, "2011-12-31", 24),
]
# Second pass of the repeated hour, in UTC; the tick that follows a restart at that moment.
RESTARTS = [
    ("30 1 * * *", NEW_YORK, "2026-11-01T06:15", "2026-11-02T06:30"),
    ("0 * * * *", NEW_YORK, "2026-11-01T06:15", "2026-11-01T07:00"),
    ("*/20 1 * * *", NEW_YORK, "2026-11-01T06:15", "2026-11-01T06:20"),
    ("30 1 * * *", LONDON, "2026-10-25T01:15", "2026-10-26T01:30"),
    ("45 1 * * *", LORD_HOWE, "2026-04-04T15:05", "2026-04-05T15:15"),
    ("*/15 1 * * *", LORD_HOWE, "2026-04-04T15:05", "2026-04-04T15:15"),
]


def ticks_of(expression: str, tz: str, day: str) -> list[str]:
    """On one local day, in UTC."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(tz))
    end = (start + timedelta(days=1)).timestamp()
    ticks = takewhile(lambda tick: tick < end, Cron(expression=expression, tz=tz).ticks(start.timestamp() - 1))
    return [datetime.fromtimestamp(tick, UTC).strftime("%d %H:%M") for tick in ticks]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("expression", "tz", "day", "expected"),
    [pytest.param(*case, id=f"{case[1]} {name}") for name, *case in FIVE_FIELDS],
)
def test_clock_change(expression: str, tz: str, day: str, expected: list[str]) -> None:
    assert ticks_of(expression, tz, day) == expected
    assert ticks_of(f"0 {expression}", tz, day) == expected, "with seconds it means the same"


@pytest.mark.parametrize(("tz", "day", "hours"), EVERY_HOUR)
def test_every_quarter_of_an_hour__in_every_real_one(tz: str, day: str, hours: float) -> None:
    assert len(ticks_of("*/15 * * * *", tz, day)) == hours * 4


@pytest.mark.parametrize(("expression", "tz", "restart", "expected"), RESTARTS)
def test_restart_in_the_second_pass__goes_on_as_if_there_was_none(
    expression: str, tz: str, restart: str, expected: str
) -> None:
    assert next(Cron(expression=expression, tz=tz).ticks(utc(restart))) == utc(expected)
