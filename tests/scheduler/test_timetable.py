from datetime import UTC, datetime
from itertools import islice

import pytest

from scaling_kit.scheduler.timetable import Cron, Interval, InvalidTimetableError, UnknownTimeZoneError, latest

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


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
