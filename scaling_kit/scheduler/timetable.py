"""When a schedule ticks. A tick is a whole second since the epoch (UTC), the same for every process that asks."""

from __future__ import annotations

import math
from bisect import bisect
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, takewhile
from typing import Protocol
from zoneinfo import ZoneInfo

DAY = 86400

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# As cronsim names the fields in its errors. The first may be left out.
FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW, in a month that has that day",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, with L or #1-#5",
}


class InvalidTimetableError(ValueError):
    """A timetable cannot be understood. The message says which field, its value, and what is allowed."""


class UnknownTimeZoneError(InvalidTimetableError):
    """The time zone is not in the zoneinfo database."""


class Timetable(Protocol):
    def validate(self) -> None:
        """Raise `InvalidTimetableError` unless it can be understood, and ticks at all."""

    def ticks(self, after: float) -> Iterator[int]:
        """The ticks later than `after`, in order; none for ever is possible."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Every so many seconds, counted from the epoch: all candidates agree, and a restart changes nothing."""

    seconds: float

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"

    def validate(self) -> None:
        if self.seconds < 1 or self.seconds % 1:
            raise InvalidTimetableError(f"seconds: {self.seconds!r} must be a whole number of at least 1")

    def ticks(self, after: float) -> Iterator[int]:
        step = int(self.seconds)
        return count(int(after // step) * step + step, step)


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A cron expression, by the wall clock of a time zone, as Debian's cron reads it.

    Five fields or six (seconds first), names, steps, `L`, `LW`, `#` and the @aliases. A fixed time in the hour that
    spring skips ticks once, at its end; in the hour that autumn repeats, once, in the first pass. With a `*` or `*/n`
    as minute or hour it ticks in every real hour.
    """

    expression: str
    tz: str = "UTC"

    def __str__(self) -> str:
        return self.expression if self.tz == "UTC" else f"{self.expression} {self.tz}"

    def validate(self) -> None:
        from cronsim import CronSimError

        _zone(self.tz)
        try:
            tick = next(self.ticks(0.0), None)
        except CronSimError as error:
            raise InvalidTimetableError(f"{self.expression!r}: {self._reason(str(error))}") from error
        if tick is None:
            raise InvalidTimetableError(f"{self.expression!r}: matches no time within 50 years")

    def ticks(self, after: float) -> Iterator[int]:
        zone, last = _zone(self.tz), math.floor(after)
        matches = self._matches(_wall_clock_before_any_tick_later_than(last, zone))
        for tick in _once(matches, zone) if self._is_fixed else _in_every_real_hour(matches, zone):
            if tick > last:
                last = tick
                yield tick

    def _matches(self, after: datetime) -> Iterator[datetime]:
        """The matching times of a wall clock that is never changed. cronsim knows of clock changes too, but its
        wildcards go wrong when one is not at a full hour or not by one, and it reads six fields by other rules.
        """
        from cronsim import CronSim

        return CronSim(self._fields, after)

    @property
    def _is_fixed(self) -> bool:
        """What Debian's cron runs at wall clock times, as opposed to every so often."""
        minute, hour = self._fields.split()[-5:-3]
        return not minute.startswith("*") and not hour.startswith("*")

    @property
    def _fields(self) -> str:
        return ALIASES.get(self.expression.strip().lower(), self.expression)

    def _reason(self, error: str) -> str:
        parts = self._fields.split()
        field = error.removeprefix("Bad ")
        if field not in FIELDS:
            return f"has {len(parts)} fields; 5 are needed (6 with seconds), or one of {', '.join(ALIASES)}"
        value = parts[list(FIELDS).index(field) - (len(FIELDS) - len(parts))]
        return f"{field}: {value!r} is not allowed; {FIELDS[field]}, with *, lists, ranges and steps"


def latest(timetable: Timetable, *, after: float, until: float, limit: int) -> list[int]:
    """The last `limit` ticks in (after, until], in order, without counting through a long absence."""
    window = 60.0
    while True:
        start = max(after, until - window)
        found = list(takewhile(lambda tick: tick <= until, timetable.ticks(start)))
        if start == after or len(found) >= limit:
            return found[-limit:]
        window *= 8


def _wall_clock_before_any_tick_later_than(moment: int, zone: tzinfo) -> datetime:
    """The wall clock at that moment, or as it will be set back within a day: what it then repeats may tick again."""
    return min(_wall_clock(moment, zone), _wall_clock(moment + DAY, zone) - timedelta(seconds=DAY))


def _once(matches: Iterable[datetime], zone: tzinfo) -> Iterator[int]:
    """Each at the first moment when the clock shows it, or has passed it by."""
    for match in matches:
        [*moments] = _moments(match, zone)
        yield moments[0] if moments else _end_of_gap(match, zone)


def _in_every_real_hour(matches: Iterable[datetime], zone: tzinfo) -> Iterator[int]:
    """Each at every moment when the clock shows it, in the order of the moments."""
    second_pass: deque[int] = deque()
    for match in matches:
        for number, moment in enumerate(_moments(match, zone)):
            if number:
                second_pass.append(moment)
                continue
            while second_pass and second_pass[0] < moment:
                yield second_pass.popleft()
            yield moment
    yield from second_pass


def _moments(match: datetime, zone: tzinfo) -> list[int]:
    """When a clock in that zone shows this time: once; twice if it is set back; never if it skips it."""
    candidates = dict.fromkeys(_at(match, zone, fold) for fold in (0, 1))
    return [moment for moment in candidates if _wall_clock(moment, zone) == match]


def _end_of_gap(match: datetime, zone: tzinfo) -> int:
    """The moment of the clock change that skips this time. It is between what either offset makes of it."""
    moments = range(_at(match, zone, fold=1), _at(match, zone, fold=0) + 1)
    return moments[bisect(moments, match, key=lambda moment: _wall_clock(moment, zone))]


def _at(match: datetime, zone: tzinfo, fold: int) -> int:
    return int(match.replace(tzinfo=zone, fold=fold).timestamp())


def _wall_clock(moment: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # computes faster
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise UnknownTimeZoneError(f"tz: {name!r} is not a time zone of the zoneinfo database") from error
