"""The schedules as they run: those declared in code, with what the table changes of them, and those of the table."""

from __future__ import annotations

import difflib
import enum
import logging
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import redis
from django import db
from django.db import router, transaction

from scaling_kit.redis import Purpose, RedisError, client, key
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.rows import Row, UnfitError, understood
from scaling_kit.scheduler.schedule import Schedule, discovered

logger = logging.getLogger(__name__)

# A leader whose database does not answer goes on with what it knows, after at most this share of its lease.
SHARE_OF_THE_LEASE = 0.2
REVISION_TTL_SECONDS = 30 * 24 * 3600
# A job that was run by hand is called `cron-<name>-now-<epoch>`.
BY_HAND = "-now"
WITHOUT_A_DATABASE = "django.db.backends.dummy"


class UnknownScheduleError(LookupError):
    """No schedule has that name."""


class Origin(enum.StrEnum):
    DECLARED = "declared"
    CHANGED = "changed"  # declared, and the table changes something of it
    STORED = "stored"
    GONE = "gone"  # a row for a declared one that the code declares no longer


@dataclass(frozen=True, kw_only=True)
class Found:
    """A schedule, or the reason why there is none under this name."""

    name: str
    origin: Origin
    schedule: Schedule | None
    reason: str = ""


def current() -> Sequence[Schedule]:
    """The schedules that the leader runs. Never raises, and a database that hangs does not hold it up.

    Without the table, or with the database away, these are the ones last known, or else those declared.
    """
    found = surveyed(_table.read_within(settings.LEASE_SECONDS * SHARE_OF_THE_LEASE))
    _complaints.say(found)
    return [one.schedule for one in found if one.schedule]


def survey() -> list[Found]:
    """Every schedule, whether it can run or not. The same as for `current()` holds, but it waits for the database."""
    return surveyed(_table.read())


def find(name: str) -> Schedule:
    """Raises `UnknownScheduleError` with the nearest names, `UnfitError` for one that cannot run."""
    found = {one.name: one for one in survey()}
    if name not in found:
        nearest = " or ".join(repr(one) for one in difflib.get_close_matches(name, found))
        raise UnknownScheduleError(f"There is no schedule {name!r}." + (f" Did you mean {nearest}?" if nearest else ""))
    one = found[name]
    if not one.schedule:
        raise UnfitError(f"Schedule {name!r} cannot run: {one.reason}")
    return one.schedule


def sync() -> None:
    """Make a blank row for each declared schedule that has none, so that the admin lists it. It changes nothing."""
    longest = StoredSchedule._meta.get_field("name").max_length or 0
    names = {one.name for one in discovered() if len(one.name) <= longest}
    names -= set(StoredSchedule.objects.values_list("name", flat=True))
    StoredSchedule.objects.bulk_create([StoredSchedule(name=name) for name in sorted(names)], ignore_conflicts=True)


# --- telling the leader


def fetch_revision(redis: redis.Redis) -> str:
    """Something else as soon as the schedules may have changed. Raises `redis.RedisError`."""
    return f"{redis.get(revision_key())!r}.{_table.version}"


def announce(
    *, using: str | None = None, instance: StoredSchedule | None = None, created: bool = False, **_: Any
) -> None:
    """Have the leader read the table as soon as the transaction is committed. Receives `post_save`, `post_delete`."""
    new = instance.name if created and instance and instance.task else ""
    transaction.on_commit(partial(_announce, new), using=using)


def revision_key() -> str:
    return key("scheduler", "revision")


def _announce(new: str) -> None:
    try:
        pipeline = client(Purpose.REQUEST, settings.REDIS_URL).pipeline()
        if new:  # it starts now, whatever one of that name has run that was deleted
            pipeline.hdel(claim.state_key(new), "tick")
        # Not counted up: a count that starts anew after a loss of Redis's data may come to one that was seen before.
        pipeline.set(revision_key(), secrets.token_hex(8), ex=REVISION_TTL_SECONDS)
        pipeline.execute()
    except RedisError as error:
        logger.warning("schedules changed, the leader not told and will see it within 30 s error=%r", error)


# --- reading the table


class Table:
    """The rows, as last read. What a database does wrong must not stop the schedules that are known."""

    def __init__(self, *, abandon_after_seconds: float = 30.0) -> None:
        self.abandon_after_seconds = abandon_after_seconds
        self.rows: Sequence[Row] = []
        self.version = 0
        """Changes with what was read, which may be later than somebody waited for it."""
        self._is_readable = True
        self._reading: threading.Thread | None = None
        self._began_at = 0.0
        self._is_outdated = False

    def read(self) -> Sequence[Row]:
        """The rows, or those last known. Never raises."""
        self._take(_attempt())
        return self.rows

    def read_within(self, seconds: float) -> Sequence[Row]:
        """As `read()`, with a connection that is closed again, and by those last known when it takes longer."""
        if self._is_reading():
            self._is_outdated = True  # it may have begun before what we are asked for
            return self.rows
        self._began_at = time.monotonic()
        self._reading = threading.Thread(target=self._read_and_close, name="scaling_kit-schedules", daemon=True)
        self._reading.start()
        self._reading.join(seconds)
        if self._reading.is_alive():
            self._say(TimeoutError(f"no answer within {seconds:g} s"))
        return self.rows

    def _is_reading(self) -> bool:
        """Of a database that vanished without a word, a connection may wait for hours."""
        is_recent = time.monotonic() < self._began_at + self.abandon_after_seconds
        return is_recent and self._reading is not None and self._reading.is_alive()

    def _read_and_close(self) -> None:
        answer = _attempt()
        db.connections.close_all()
        if self._reading is threading.current_thread():  # not abandoned
            self._take(answer)
            self.version += self._is_outdated
            self._is_outdated = False

    def _take(self, answer: list[Row] | Exception) -> None:
        if isinstance(answer, Exception):
            self._say(answer)
            return
        self._say(None)
        self.version += answer != self.rows
        self.rows = answer

    def _say(self, error: Exception | None) -> None:
        """Log that the table cannot be read, and that it can be again; once each."""
        if (error is None) != self._is_readable:
            self._is_readable = error is None
            if error is None:
                logger.info("schedules readable=True")
            else:
                logger.warning("schedules readable=False, going on with rows=%s error=%r", len(self.rows), error)


_table = Table()


def _attempt() -> list[Row] | Exception:
    try:
        return _fetch_rows()
    except Exception as error:  # the driver's own errors, a database that is not configured, a table not migrated
        return error


def _fetch_rows() -> list[Row]:
    alias = router.db_for_read(StoredSchedule)
    if db.connections.databases[alias]["ENGINE"] == WITHOUT_A_DATABASE:
        return []
    with transaction.atomic(using=alias):  # a savepoint if we are in a transaction: a missing table would break it
        found = StoredSchedule.objects.order_by("pk").values_list(*Row._fields)
        return [Row._make(values) for values in found]


class Complaints:
    """Says once what is wrong with a row, until something else is."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, found: Iterable[Found]) -> None:
        reasons = {one.name: one.reason for one in found if one.reason and one.origin is not Origin.GONE}
        for name, reason in reasons.items():
            if self._said.get(name) != reason:
                logger.error("schedule left out schedule=%s reason=%s", name, reason)
        self._said = reasons


_complaints = Complaints()


# --- understanding the rows

_understood: dict[str, tuple[str, Schedule | None, Found]] = {}


def surveyed(rows: Sequence[Row]) -> list[Found]:
    """What these rows make of the declared schedules, which come first. Only rows that are new are looked into."""
    declared = {one.name: one for one in discovered()}
    by_name = {row.name: row for row in rows}
    for name in _understood.keys() - by_name.keys():
        _understood.pop(name, None)
    found = [_declared(one, by_name.get(one.name)) for one in discovered()]
    taken = {one.slug for one in declared.values()}
    for row in rows:
        if row.name not in declared:
            found.append(one := _own(row, taken))
            taken |= {one.schedule.slug} if one.schedule else set()
    return found


def _declared(schedule: Schedule, row: Row | None) -> Found:
    if row is None or row.is_blank:
        return Found(name=schedule.name, origin=Origin.DECLARED, schedule=schedule)
    return _looked_into(row, schedule)


def _own(row: Row, taken: set[str]) -> Found:
    found = _looked_into(row, None)
    if found.schedule and found.schedule.slug in taken:
        return replace(found, schedule=None, reason="name: another one differs from it only in punctuation")
    return found


def _looked_into(row: Row, declared: Schedule | None) -> Found:
    known = _understood.get(row.name)
    seen = repr(row)  # which tells [1] from [true]
    if known and known[:2] == (seen, declared):
        return known[2]
    origin = Origin.CHANGED if declared else Origin.STORED if row.task else Origin.GONE
    try:
        found = Found(name=row.name, origin=origin, schedule=understood(row, declared))
    except Exception as error:  # nothing that a row holds may stop the others
        reason = str(error) if isinstance(error, UnfitError) else repr(error)
        found = Found(name=row.name, origin=origin, schedule=None, reason=reason)
    _understood[row.name] = seen, declared, found
    return found
