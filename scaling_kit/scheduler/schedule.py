"""What is to run when. Declared in any app's `schedule.py`:

    @every("*/5 * * * *", tz="Europe/Paris")
    @task
    def sweep(): ...

    schedule.add("reports.nightly", send_report, "@daily", kwargs={"to": "all"})

Declaring only remembers. Mistakes are system checks, so that a wrong schedule does not take the web down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

from django.utils.module_loading import autodiscover_modules

from scaling_kit.scheduler.timetable import Cron, Interval, Timetable

CatchUp = Literal["skip", "latest", "all"]
Overlap = Literal["allow", "skip", "hold"]

CATCH_UP: tuple[CatchUp, ...] = ("skip", "latest", "all")
OVERLAP: tuple[Overlap, ...] = ("allow", "skip", "hold")
# catch_up="skip" without a grace: so late, a tick still counts as on time.
ON_TIME_SECONDS = 5.0

T = TypeVar("T")


class InvalidScheduleError(ValueError):
    """An option of a schedule has no meaning. The message says which, its value, and what is allowed."""


@runtime_checkable
class Enqueueable(Protocol):
    """A task of Django's Tasks API, and whatever else can be put on a queue by its own method."""

    def enqueue(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Delayable(Protocol):
    """A job function of django-rq, a task of Celery."""

    def delay(self, *args: Any, **kwargs: Any) -> Any: ...


class Options(TypedDict, total=False):
    """Options of a schedule.

    `catch_up`: what becomes of ticks that nobody was there to run: none is run, the last one is, or each is.
    `grace_seconds`: a tick later than this is dropped in any case.
    `overlap`: what becomes of a tick while the job of the one before waits or runs: it is enqueued all the same, it is
    skipped, or it is held until that job is over. The default is "skip", but "allow" with `catch_up="all"`, whose ticks
    come in a burst after an absence. Only for tasks whose backend offers `prepare()`; others are always enqueued.
    `jitter_seconds`: each tick is enqueued so much later at most; how much is drawn from the name, and always the same.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    catch_up: CatchUp
    grace_seconds: float | None
    overlap: Overlap
    jitter_seconds: float
    enabled: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A task and when it runs. The name is its identity: what it has run so far is kept under it."""

    name: str
    task: Enqueueable | Delayable
    timetable: Timetable
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    catch_up: CatchUp = "latest"
    grace_seconds: float | None = None
    overlap: Overlap = "skip"
    jitter_seconds: float = 0.0
    enabled: bool = True

    @property
    def slug(self) -> str:
        """The name in the letters that an RQ job id may have."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", self.name)

    def job_id(self, tick: int) -> str:
        return f"cron-{self.slug}-{tick}"

    @property
    def delay_seconds(self) -> float:
        """How long after each tick it is enqueued: the same in every process, and different for each schedule."""
        if not self.jitter_seconds:
            return 0.0
        drawn = int.from_bytes(blake2b(self.name.encode(), digest_size=4).digest())
        return self.jitter_seconds * drawn / 2**32

    def oldest_wanted(self, now: float) -> float:
        """Ticks up to this time are too late to be run."""
        grace = self.grace_seconds
        if grace is None:
            grace = ON_TIME_SECONDS if self.catch_up == "skip" else float("inf")
        return now - grace

    def validate(self) -> None:
        """Raise `InvalidScheduleError` for an option, `InvalidTimetableError` for the time."""
        if not isinstance(self.task, Enqueueable | Delayable):
            raise InvalidScheduleError(f"task: {self.task!r} has neither enqueue() nor delay(); is @task missing?")
        if self.catch_up not in CATCH_UP:
            raise InvalidScheduleError(f"catch_up: {self.catch_up!r} is none of {', '.join(CATCH_UP)}")
        if self.overlap not in OVERLAP:
            raise InvalidScheduleError(f"overlap: {self.overlap!r} is none of {', '.join(OVERLAP)}")
        if self.grace_seconds is not None and not self.grace_seconds > 0:
            raise InvalidScheduleError(f"grace_seconds: {self.grace_seconds!r} is not above 0; use None for no limit")
        if not 0 <= self.jitter_seconds < float("inf"):
            raise InvalidScheduleError(f"jitter_seconds: {self.jitter_seconds!r} is not a number of 0 or more")
        self.timetable.validate()


_declared: list[Schedule] = []


def every(
    expression: str = "", *, seconds: float | None = None, tz: str = "UTC", name: str = "", **options: Unpack[Options]
) -> Callable[[T], T]:
    """Run a task by a cron expression in a time zone, or every so many seconds. Goes above `@task`, or around one.

    The name is the task's dotted path unless given; a task that is scheduled twice needs two names.
    """

    def declare(task: T) -> T:
        add(name or _dotted_path(task), task, expression, seconds=seconds, tz=tz, **options)
        return task

    return declare


def add(
    name: str,
    task: Any,
    expression: str = "",
    *,
    seconds: float | None = None,
    tz: str = "UTC",
    **options: Unpack[Options],
) -> None:
    """Run a task by a cron expression in a time zone, or every so many seconds."""
    if bool(expression) == (seconds is not None):
        raise TypeError(f"Schedule {name!r} needs either a cron expression or seconds=")
    timetable = Interval(seconds=seconds) if seconds is not None else Cron(expression=expression, tz=tz)
    options.setdefault("overlap", "allow" if options.get("catch_up") == "all" else "skip")
    _declared.append(Schedule(name=name, task=task, timetable=timetable, **options))


def discovered() -> Sequence[Schedule]:
    """Every schedule of the project, after importing the `schedule` module of each installed app."""
    autodiscover_modules("schedule")
    return tuple(_declared)


def clashing(schedules: Iterable[Schedule]) -> list[Schedule]:
    """Those whose name, in the letters of a job id, was taken by one before."""
    seen: set[str] = set()
    clashes = []
    for one in schedules:
        if one.slug in seen:
            clashes.append(one)
        seen.add(one.slug)
    return clashes


def _dotted_path(task: Any) -> str:
    path = getattr(task, "module_path", None)
    return str(path) if path else f"{task.__module__}.{task.__qualname__}"
