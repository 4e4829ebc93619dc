"""System checks of the scheduler. Each looks at the schedules that the project's apps declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections, router

from scaling_kit.extras import check_installed, missing
from scaling_kit.scheduler import stored
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.schedule import InvalidScheduleError, Schedule, clashing, discovered
from scaling_kit.scheduler.timetable import InvalidTimetableError, UnknownTimeZoneError


@register("scaling_kit")
def check_cronsim(**_: Any) -> list[CheckMessage]:
    """E001: the extra is not installed."""
    return check_installed("scheduler", ["cronsim"])


@register("scaling_kit")
def check_schedules(**_: Any) -> list[CheckMessage]:
    """E002 a time that cannot be understood, E003 an unknown time zone, E005 a wrong option."""
    if missing(["cronsim"]):
        return []  # E001 says so
    return [message for schedule in discovered() for message in _mistakes(schedule)]


@register("scaling_kit")
def check_names(**_: Any) -> list[CheckMessage]:
    """E004: two schedules that would share one watermark, or job ids."""
    return [
        Error(
            f"Schedule {schedule.name!r} is declared twice, or differs from another only in punctuation.",
            hint="Give one of them a name of its own: @every(..., name=...).",
            id="scaling_kit_scheduler.E004",
        )
        for schedule in clashing(discovered())
    ]


@register("scaling_kit")
def check_settings(**_: Any) -> list[CheckMessage]:
    """E006: a lease too short to be renewed."""
    if settings.LEASE_SECONDS >= 1:
        return []
    return [
        Error(
            f"SCALING_KIT_SCHEDULER_LEASE_SECONDS is {settings.LEASE_SECONDS}: too short to be renewed in time.",
            hint="Use at least 1; 15 is the default.",
            id="scaling_kit_scheduler.E006",
        )
    ]


@register(Tags.database)
def check_stored(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W007: a row of the table that cannot run. Only with `check --database`."""
    alias = router.db_for_read(StoredSchedule)
    if alias not in (databases or ()) or missing(["cronsim"]) or not _is_migrated(alias):
        return []
    return [
        CheckWarning(
            f"Schedule {one.name!r} of the table does not run: {one.reason}.",
            hint="Correct it in the admin, or delete it there.",
            id="scaling_kit_scheduler.W007",
        )
        for one in stored.survey()
        if one.reason
    ]


def _is_migrated(alias: str) -> bool:
    """`migrate` runs this check before it makes the table."""
    try:
        return StoredSchedule._meta.db_table in connections[alias].introspection.table_names()
    except DatabaseError:
        return False


def _mistakes(schedule: Schedule) -> list[CheckMessage]:
    try:
        schedule.validate()
    except UnknownTimeZoneError as error:
        return [_error(schedule, error, "Use a name like 'Europe/Paris'; on a slim system install tzdata.", "E003")]
    except InvalidTimetableError as error:
        return [
            _error(schedule, error, "minute hour day-of-month month day-of-week, like '*/5 9-17 * * MON-FRI'.", "E002")
        ]
    except InvalidScheduleError as error:
        return [_error(schedule, error, "The options are described in docs/scheduler.md.", "E005")]
    return []


def _error(schedule: Schedule, error: Exception, hint: str, number: str) -> CheckMessage:
    return Error(f"Schedule {schedule.name!r}: {error}.", hint=hint, id=f"scaling_kit_scheduler.{number}")
