"""A row of the table, and the schedule that it makes: of a declared one, or by itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

from django.apps import apps
from django.utils.module_loading import import_string

from scaling_kit.scheduler.schedule import InvalidScheduleError, Schedule
from scaling_kit.scheduler.timetable import Cron, Interval, InvalidTimetableError, Timetable, UnknownTimeZoneError

MOST_JITTER_SECONDS = 7 * 24 * 3600


class UnfitError(ValueError):
    """A row of the table cannot run. `field` is the one to be corrected; '' if it is not in one field."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


class Row(NamedTuple):
    """What the table says of a schedule. Fields as in `StoredSchedule`."""

    name: str
    task: str = ""
    expression: str = ""
    seconds: int | None = None
    tz: str = ""
    args: Any = None
    kwargs: Any = None
    catch_up: str = ""
    overlap: str = ""
    grace_seconds: float | None = None
    jitter_seconds: float | None = None
    enabled: bool | None = None

    @property
    def is_blank(self) -> bool:
        return self == Row(self.name)


def understood(row: Row, declared: Schedule | None) -> Schedule:
    """The schedule that a row makes, of a declared one or by itself. Raises `UnfitError`."""
    if declared and row.task:
        raise UnfitError(f"name: {row.name!r} is declared in the code by now; call this one otherwise", "name")
    if not declared and not row.task:
        raise UnfitError("its declaration is gone from the code")
    args, kwargs = _arguments(row, declared)
    schedule = Schedule(
        name=row.name,
        task=declared.task if declared else _task(row.task),
        timetable=_timetable(row, declared.timetable if declared else None),
        args=args,
        kwargs=kwargs,
        **_options(row, declared),
    )
    _validate(schedule)
    _check_call(schedule)
    return schedule


def _arguments(row: Row, declared: Schedule | None) -> tuple[Sequence[Any], Mapping[str, Any]]:
    args = row.args if row.args is not None else declared.args if declared else ()
    kwargs = row.kwargs if row.kwargs is not None else declared.kwargs if declared else {}
    if not isinstance(args, list | tuple):
        raise UnfitError(f"args: {args!r} is not a list", "args")
    if not isinstance(kwargs, Mapping):
        raise UnfitError(f"kwargs: {kwargs!r} is not an object with names", "kwargs")
    return args, kwargs


def _task(path: str) -> Any:
    """A task of an installed app. Nothing else, since whoever may edit schedules could call it."""
    if apps.get_containing_app_config(path) is None:
        raise UnfitError(f"task: {path!r} is in no installed app", "task")
    try:
        task = import_string(path)
    except Exception as error:  # whatever a module does when it is imported
        raise UnfitError(f"task: {path!r} cannot be imported: {error}", "task") from error
    # A module and a queue have an enqueue() as well, which takes any function.
    if isinstance(task, ModuleType | type) or not callable(_function(task)):
        raise UnfitError(f"task: {path!r} is no task but {task!r}", "task")
    return task


def _timetable(row: Row, declared: Timetable | None) -> Timetable:
    if row.expression and row.seconds is not None:
        raise UnfitError("seconds: give either an expression or seconds, not both", "seconds")
    if row.seconds is not None:
        return Interval(seconds=row.seconds)
    tz = row.tz or (declared.tz if isinstance(declared, Cron) else "UTC")
    if row.expression:
        return Cron(expression=row.expression, tz=tz)
    if declared is None:
        raise UnfitError("expression: give an expression or seconds", "expression")
    return replace(declared, tz=tz) if isinstance(declared, Cron) else declared


def _options(row: Row, declared: Schedule | None) -> dict[str, Any]:
    names = ("catch_up", "overlap", "grace_seconds", "jitter_seconds", "enabled")
    given = {name: value for name in names if (value := getattr(row, name)) not in (None, "")}
    if declared:
        return {name: getattr(declared, name) for name in names} | given
    return {"overlap": "allow" if row.catch_up == "all" else "skip"} | given


def _validate(schedule: Schedule) -> None:
    try:
        schedule.validate()
    except UnknownTimeZoneError as error:
        raise UnfitError(str(error), "tz") from error
    except InvalidTimetableError as error:
        if isinstance(schedule.timetable, Interval):
            raise UnfitError(str(error), "seconds") from error
        raise UnfitError(f"expression: {error}", "expression") from error
    except InvalidScheduleError as error:
        raise UnfitError(str(error), str(error).partition(":")[0]) from error
    if schedule.jitter_seconds > MOST_JITTER_SECONDS:
        raise UnfitError(f"jitter_seconds: {schedule.jitter_seconds:g} is more than a week", "jitter_seconds")


def _check_call(schedule: Schedule) -> None:
    """Raises `UnfitError` for arguments that the task's function does not take."""
    try:
        signature = inspect.signature(_function(schedule.task))
    except (TypeError, ValueError):
        return  # nothing is known of what it takes
    context = (None,) if getattr(schedule.task, "takes_context", False) else ()
    try:
        signature.bind(*context, *schedule.args, **schedule.kwargs)
    except TypeError as error:
        field = "kwargs" if "keyword" in str(error) else "args"
        raise UnfitError(f"{field}: do not fit the task, which takes {signature}: {error}", field) from error


def _function(task: Any) -> Any:
    """What a worker will call: of a Django task, of a Celery task, or a function that has got a `delay()`."""
    return getattr(task, "func", None) or getattr(task, "run", None) or task
