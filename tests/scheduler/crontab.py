"""Cron expressions as Debian's cron runs them, minute by minute: slow, simple, and sharing no code with the kit.

An expression is made of fields that know what they match, so that nothing here has to parse one.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)
LEAD_SECONDS = 3 * 3600  # more than any of these clocks was set back by since 1990
MONTHS = calendar.month_abbr[1:]
WEEKDAYS = [calendar.day_abbr[day - 1] for day in range(7)]  # SUN is 0
ZONES = [
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # skipped 30 December 2011
    "Asia/Kathmandu",  # UTC+05:45
    "UTC",
    "America/Santiago",  # at midnight
    "Asia/Beirut",  # at midnight
    "Africa/Cairo",  # at midnight, on a Friday
    "America/Havana",  # at midnight
    "America/St_Johns",  # at one past midnight, until 2011
    "Africa/Casablanca",  # four times a year
    "Europe/Dublin",  # winter time is what is "saved"
    "Antarctica/Troll",  # by two hours
    "Asia/Pyongyang",  # by half an hour, once back and once forth
    "America/Caracas",  # by half an hour, once back and once forth
    "Pacific/Kwajalein",  # skipped 21 August 1993
]


@dataclass(frozen=True)
class Field:
    text: str
    values: frozenset[object]

    @property
    def is_wild(self) -> bool:
        return self.text.startswith("*")


@dataclass(frozen=True)
class Crontab:
    second: Field | None
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def __str__(self) -> str:
        fields = [self.second, self.minute, self.hour, self.day, self.month, self.weekday]
        return " ".join(field.text for field in fields if field)

    @property
    def is_fixed(self) -> bool:
        return not self.minute.is_wild and not self.hour.is_wild

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.month in self.month.values
            and self.matches_day(wall.date())
        )

    @cached_property
    def matches_day(self) -> Callable[[date], bool]:
        return cache(self._matches_day)

    def _matches_day(self, day: date) -> bool:
        weekday, last = day.isoweekday() % 7, calendar.monthrange(day.year, day.month)[1]
        last_workday = max(n for n in range(last - 2, last + 1) if date(day.year, day.month, n).isoweekday() < 6)
        by_day = {day.day, "L" if day.day == last else None, "LW" if day.day == last_workday else None}
        by_weekday = {
            weekday,
            (weekday, (day.day + 6) // 7),
            (weekday, "L") if day.day + 7 > last else None,
        }
        found = [bool(by_day & self.day.values), bool(by_weekday & self.weekday.values)]
        return all(found) if self.day.is_wild or self.weekday.is_wild else any(found)


def brute_force(cron: Crontab, zone: ZoneInfo, after: int, until: int) -> list[int]:
    """The ticks in (after, until]."""
    return [tick for tick in _walk(cron, zone, (after - LEAD_SECONDS) // 60 * 60, until) if after < tick <= until]


def _walk(cron: Crontab, zone: ZoneInfo, start: int, until: int) -> Iterator[int]:
    """Like the main loop of Debian's cron: `virtual` is the wall clock that never goes back, for the fixed jobs."""
    seconds = sorted(cron.second.values) if cron.second else [0]
    virtual = _wall(start, zone) - MINUTE
    for minute in range(start, until + 1, 60):
        wall = _wall(minute, zone)
        runs_now = cron.matches(wall)
        if cron.is_fixed:
            skipped = _between(virtual, wall)
            runs_now = runs_now and wall > virtual
            virtual = max(virtual, wall)
            if any(map(cron.matches, skipped)) and not (runs_now and seconds[0] == 0):
                yield minute
        if runs_now:
            yield from (minute + second for second in seconds)


def _between(virtual: datetime, wall: datetime) -> Iterator[datetime]:
    while (virtual := virtual + MINUTE) < wall:
        yield virtual


def _wall(moment: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


@cache
def clock_changes(zone: ZoneInfo) -> Sequence[int]:
    """The first moments after each change of the zone's offset, 1990-2037."""
    days = range(
        int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2037, 1, 1, tzinfo=UTC).timestamp()), 86400
    )
    return [_change(zone, day, after) for day, after in pairwise(days) if _offset(day, zone) != _offset(after, zone)]


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    new = _offset(after, zone)
    return before + bisect_left(range(before, after), True, key=lambda moment: _offset(moment, zone) == new)


def _offset(moment: int, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


def crontabs() -> st.SearchStrategy[Crontab]:
    minutes, hours = _numbers(0, 59), _numbers(0, 23)
    days = _numbers(1, 31) | st.sampled_from([Field("L", frozenset(["L"])), Field("LW", frozenset(["LW"]))])
    often = st.just(None)
    return st.builds(
        Crontab,
        second=often | often | _listed(_numbers(0, 59)),
        minute=_listed(minutes),
        hour=_listed(hours) | st.sampled_from([Field(str(hour), frozenset([hour])) for hour in range(4)]),
        day=_mostly_any(_listed(days), 1, 31),
        month=_mostly_any(_listed(_numbers(1, 12, MONTHS)), 1, 12),
        weekday=_mostly_any(_listed(_numbers(0, 7, WEEKDAYS) | _weekdays_of_month()), 0, 7).map(_sunday_is_0),
    )


def moments(zone: ZoneInfo) -> st.SearchStrategy[int]:
    """Any second, or one near a change of the clock."""
    anywhere = st.integers(
        int(datetime(1995, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2036, 1, 1, tzinfo=UTC).timestamp())
    )
    if not clock_changes(zone):
        return anywhere
    near = st.builds(int.__add__, st.sampled_from(clock_changes(zone)), st.integers(-30 * 3600, 26 * 3600))
    return near | near | anywhere


def _numbers(lowest: int, highest: int, names: Sequence[str] = ()) -> st.SearchStrategy[Field]:
    whole = list(range(lowest, highest + 1))
    number = st.integers(lowest, highest)
    step = st.integers(1, highest)

    def spelt(value: int, by_name: bool) -> str:
        index = value - min(lowest, 1)
        return names[index].title() if by_name and 0 <= index < len(names) else str(value)

    def one(value: int, by_name: bool) -> Field:
        return Field(spelt(value, by_name), frozenset([value]))

    def span(ends: tuple[int, int], by_name: bool) -> Field:
        first, last = sorted(ends)
        return Field(f"{spelt(first, by_name)}-{spelt(last, False)}", frozenset(range(first, last + 1)))

    def stepped(field: Field, step: int) -> Field:
        """Steps of a single number go on to the end."""
        [first, *more] = sorted(field.values)
        values = [first, *more] if more else [value for value in whole if value >= first]
        return Field(f"{field.text}/{step}", frozenset(values[::step]))

    star = st.just(Field("*", frozenset(whole)))
    plain = st.builds(one, number, st.booleans())
    spans = st.builds(span, st.tuples(number, number).filter(lambda ends: ends[0] != ends[1]), st.booleans())
    return star | plain | spans | st.builds(stepped, star | plain | spans, step)


def _weekdays_of_month() -> st.SearchStrategy[Field]:
    def nth(weekday: int, which: object) -> Field:
        return Field(f"{weekday}{which}" if which == "L" else f"{weekday}#{which}", frozenset([(weekday, which)]))

    return st.builds(nth, st.integers(0, 7), st.sampled_from(["L", 1, 2, 3, 4, 5]))


def _listed(fields: st.SearchStrategy[Field]) -> st.SearchStrategy[Field]:
    def join(some: list[Field]) -> Field:
        return Field(",".join(field.text for field in some), frozenset().union(*(field.values for field in some)))

    return st.lists(fields, min_size=1, max_size=3).map(join)


def _mostly_any(fields: st.SearchStrategy[Field], lowest: int, highest: int) -> st.SearchStrategy[Field]:
    star = st.just(Field("*", frozenset(range(lowest, highest + 1))))
    return star | star | star | fields


def _sunday_is_0(field: Field) -> Field:
    def shown(value: object) -> object:
        return {7: 0}.get(value, value) if isinstance(value, int) else (value[0] % 7, value[1])  # type: ignore[index]

    return Field(field.text, frozenset(map(shown, field.values)))
