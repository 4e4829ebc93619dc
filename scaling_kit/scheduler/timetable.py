"""When a schedule ticks. A tick is a whole second since the epoch (UTC), the same for every process that asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import count, takewhile
from typing import Protocol
from zoneinfo import ZoneInfo

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
    spring skips ticks once, at its end; in the hour that autumn repeats, once, in the first pass. Wildcards in
    minute or hour tick in every real hour.
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
        from cronsim import CronSim

        last = int(after)
        for moment in CronSim(self._fields, datetime.fromtimestamp(last, _zone(self.tz))):
            tick = int(moment.timestamp())
            # From a start in the second pass of a repeated hour, cronsim may first answer a time of the first pass.
            if tick > last:
                last = tick
                yield tick

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


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # cronsim computes faster with it
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise UnknownTimeZoneError(f"tz: {name!r} is not a time zone of the zoneinfo database") from error
