from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from scaling_kit.scheduler.timetable import Cron, Interval, InvalidTimetableError, UnknownTimeZoneError, latest

NEW_YORK, LONDON, LORD_HOWE, APIA = "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Apia"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def on_day(expression: str, tz: str, day: str) -> list[str]:
    """The ticks of one local day, as UTC."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(tz))
    end = (start + timedelta(days=1)).timestamp()
    ticks = takewhile(lambda tick: tick < end, Cron(expression=expression, tz=tz).ticks(start.timestamp() - 1))
    return [datetime.fromtimestamp(tick, UTC).strftime("%d %H:%M") for tick in ticks]


@pytest.mark.parametrize(
    ("expression", "tz", "day", "expected"),
    [
        # Spring: 02:00-03:00 is skipped. A fixed time in it ticks once, at its end.
        ("30 2 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
        ("0 2,3 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
        ("15,45 2 * * *", NEW_YORK, "2026-03-08", ["08 07:00"]),
        ("30 1 * * *", LONDON, "2026-03-29", ["29 01:00"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-04", ["03 15:30"]),
        # Autumn: 01:00-02:00 comes twice. A fixed time ticks in the first pass, a wildcard in every real hour.
        ("30 1 * * *", NEW_YORK, "2026-11-01", ["01 05:30"]),
        ("30 1,3 * * *", NEW_YORK, "2026-11-01", ["01 05:30", "01 08:30"]),
        (
            "*/20 1 * * *",
            NEW_YORK,
            "2026-11-01",
            ["01 05:00", "01 05:20", "01 05:40", "01 06:00", "01 06:20", "01 06:40"],
        ),
        ("30 1 * * *", LONDON, "2026-10-25", ["25 00:30"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-05", ["04 14:45"]),
        # Samoa skipped the 30th: what was due then ticks when the 31st begins.
        ("0 12 * * *", APIA, "2011-12-29", ["29 22:00"]),
        ("0 12 * * *", APIA, "2011-12-31", ["30 10:00", "30 22:00"]),
    ],
)
def test_clock_change(expression: str, tz: str, day: str, expected: list[str]) -> None:
    assert on_day(expression, tz, day) == expected


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-06-01", 24)])
@pytest.mark.parametrize(("expression", "per_hour"), [("0 * * * *", 1), ("*/30 * * * *", 2)])
def test_wildcard__ticks_in_every_real_hour(day: str, hours: int, expression: str, per_hour: int) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(NEW_YORK))
    end = (start + timedelta(days=1)).timestamp()
    found = takewhile(lambda tick: tick < end, Cron(expression=expression, tz=NEW_YORK).ticks(start.timestamp() - 1))
    assert len(list(found)) == hours * per_hour


@pytest.mark.parametrize("expression", ["30 1 * * *", "50 1,5 * * *", "0 2,3 * * *", "*/20 1 * * *", "0 * * * *"])
@pytest.mark.parametrize("tz", [NEW_YORK, LONDON, LORD_HOWE])
def test_asked_at_any_second_of_a_clock_change__the_ticks_are_the_same(expression: str, tz: str) -> None:
    timetable = Cron(expression=expression, tz=tz)
    for change in ("2026-11-01T00:00", "2026-10-25T00:00", "2026-04-04T13:00", "2026-03-08T05:00"):
        ticks = list(islice(timetable.ticks(utc(change)), 40))
        for start in range(utc(change), utc(change) + 6 * 3600, 97):
            assert next(timetable.ticks(start)) == next(tick for tick in ticks if tick > start)


def test_interval__is_counted_from_the_epoch() -> None:
    assert list(islice(Interval(seconds=30).ticks(1000.5), 3)) == [1020, 1050, 1080]
    assert next(Interval(seconds=30.0).ticks(1020)) == 1050


@pytest.mark.parametrize(("alias", "expected"), [("@hourly", "2026-01-01T01:00"), ("@Daily", "2026-01-02T00:00")])
def test_alias(alias: str, expected: str) -> None:
    assert next(Cron(expression=alias).ticks(utc("2026-01-01T00:00"))) == utc(expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", r"minute: '61' is not allowed; 0-59"),
        ("0 24 * * *", r"hour: '24'"),
        ("0 0 * * MOO", r"day-of-week: 'MOO'"),
        ("0 0 31 2 *", r"day-of-month: '31'.*in a month that has that day"),
        ("60 * * * * *", r"second: '60'"),
        ("* * * *", r"has 4 fields; 5 are needed"),
        ("@reboot", r"or one of @yearly"),
        ("*/0 * * * *", r"minute: '\*/0'"),
    ],
)
def test_invalid_expression__says_which_field_and_why(expression: str, message: str) -> None:
    with pytest.raises(InvalidTimetableError, match=message):
        Cron(expression=expression).validate()


def test_unknown_time_zone__is_named() -> None:
    with pytest.raises(UnknownTimeZoneError, match="tz: 'Europe/Pariss'"):
        Cron(expression="@daily", tz="Europe/Pariss").validate()


@pytest.mark.parametrize("seconds", [0, -1, 1.5])
def test_invalid_interval(seconds: float) -> None:
    with pytest.raises(InvalidTimetableError, match="seconds:"):
        Interval(seconds=seconds).validate()


def test_latest__the_last_ticks_of_a_long_absence() -> None:
    year = 365 * 86400
    assert latest(Interval(seconds=1), after=0, until=year, limit=3) == [year - 2, year - 1, year]
    assert latest(Cron(expression="@yearly"), after=0, until=year * 2.5, limit=2) == [year, year * 2]
    assert latest(Cron(expression="@yearly"), after=10, until=100, limit=2) == []
