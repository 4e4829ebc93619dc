"""Django's Tasks API, from Django 6 or from the django-tasks backport, and what the kit's `@task` adds to it.

    @task(retry=3, timeout=60, unique=True)
    def resize(photo_id: int) -> None: ...

The only place that knows which of the two it is: import the names from here.
"""

from __future__ import annotations

import builtins
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from inspect import isfunction
from typing import TYPE_CHECKING, Any, TypeAlias

import django
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.utils import timezone
from django.utils.module_loading import import_string

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.backends.dummy import DummyBackend
    from django.tasks.backends.immediate import ImmediateBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    from django_tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.backends.dummy import DummyBackend
    from django_tasks.backends.immediate import ImmediateBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

if TYPE_CHECKING:
    AnyTask: TypeAlias = Task[..., Any]
    AnyResult: TypeAlias = TaskResult[..., Any]

__all__ = [
    "PRIORITIES",
    "BaseTaskBackend",
    "DummyBackend",
    "ImmediateBackend",
    "InvalidTask",
    "JobTask",
    "Retry",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]


logger = logging.getLogger(__name__)

Call: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]
Seconds: TypeAlias = float | timedelta

PRIORITIES = {"critical": 75, "high": 50, "medium": 25, "normal": 0, "low": -50}


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, and when, a task that raised is run again.

    `count` is the number of further attempts. They wait `delays` seconds, the last delay repeating. Without `delays`
    it is the `backoff` that says how long: `"exponential"`, `first_seconds` doubled each time up to `max_seconds`;
    `"fixed"`, always `first_seconds`; or a function of a module, or its dotted path, that is called in the worker
    with the number of retries there were and returns seconds. `jitter=0.1` makes each delay up to 10 % longer, so
    that jobs which failed together do not come back together. `only_for` are the exceptions, classes or their dotted
    paths, after which to retry; without it, after every one.
    """

    count: int = 3
    delays: tuple[float, ...] = ()
    first_seconds: float = 1.0
    max_seconds: float = 3600.0
    jitter: float = 0.1
    backoff: str | Callable[[int], float] = "exponential"
    only_for: Sequence[str | type[BaseException]] = ()

    def __post_init__(self) -> None:
        if not _is_whole(self.count) or self.count < 0:
            raise InvalidTask(f"retry: count must be a whole number, 0 or more, not {self.count!r}.")
        for name in ("first_seconds", "max_seconds", "jitter"):
            _check_number(f"retry: {name}", getattr(self, name))
        for delay in self.delays:
            _check_number("retry: a delay", delay)
        object.__setattr__(self, "delays", tuple(self.delays))
        object.__setattr__(self, "backoff", _backoff_path(self.backoff))
        object.__setattr__(self, "only_for", _exception_paths(self.only_for))

    @classmethod
    def of(cls, value: Any) -> Retry:
        """A `Retry`, from the number of retries or from their delays in seconds. Raises `InvalidTask`."""
        if isinstance(value, Retry):
            return value
        if _is_whole(value):
            return cls(count=value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return cls(count=len(value), delays=tuple(value), jitter=0.0)
        raise InvalidTask(f"retry must be a Retry, a number of retries or a list of delays, not {value!r}.")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Retry:
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "delays": list(self.delays), "only_for": list(self.only_for)}

    def applies_to(self, error: BaseException) -> bool:
        """Whether a task that raised this may be run again."""
        return not self.only_for or any(_is_a(error, str(path)) for path in self.only_for)

    def delay_seconds(self, retries_done: int) -> float:
        """How long to wait before the next attempt. A backoff of one's own that fails is the exponential one."""
        return self._delay(retries_done) * (1 + random.uniform(0, self.jitter))  # noqa: S311  (no secret)

    def _delay(self, retries_done: int) -> float:
        if self.delays:
            return self.delays[min(retries_done, len(self.delays) - 1)]
        if self.backoff == "fixed":
            return self.first_seconds
        if self.backoff != "exponential":
            delay = _ask(str(self.backoff), retries_done)
            if delay is not None:
                return delay
        return min(self.first_seconds * 2.0 ** min(retries_done, 64), self.max_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTask(Task):  # type: ignore[type-arg]
    """What `@task` makes with this backend. Beside Django's own arguments:

    `retry`: a `Retry`, a number of retries, or a list of delays in seconds. Default: an exception is final.
    `timeout`: seconds, or a timedelta, after which the running task is ended with an exception.
    `ttl`: seconds, or a timedelta, that it may wait for a worker once it is due; then it fails instead.
    `unique`: True for one job with the same arguments that waits or runs, a string for one job of that key. Enqueuing
    another returns the result of the one that is there.
    `result_ttl`: seconds, or a timedelta, that a successful outcome is kept; 0 removes the job.
    `on_commit`: True (default) enqueues when the transaction on OPTIONS["DATABASE"] commits, the alias of a
    database when that one's does, False at once.
    `priority` may also be one of the names in `PRIORITIES`, and `run_after`, in `using()`, a timedelta from now.

    Raises `InvalidTask`. `using()` takes all of these.
    """

    retry: Retry | int | Sequence[float] | None = None
    timeout: int | timedelta | None = None
    ttl: Seconds | None = None
    unique: bool | str = False
    result_ttl: int | timedelta | None = None
    on_commit: bool | str = True

    def __post_init__(self) -> None:
        change = object.__setattr__
        change(self, "priority", _priority(self.priority))
        if self.retry is not None:
            change(self, "retry", Retry.of(self.retry))
        if isinstance(self.run_after, timedelta):
            change(self, "run_after", timezone.now() + self.run_after)
        for name in ("timeout", "ttl", "result_ttl"):
            change(self, name, _seconds(getattr(self, name)))
        _check_task(self)
        Task.__post_init__(self)

    def using(
        self,
        *,
        priority: int | str | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        **changes: Any,
    ) -> JobTask:
        """The same task with other values for what `@task` takes. None leaves one of Django's own as it is."""
        own = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        changes |= {name: value for name, value in own.items() if value is not None}
        return replace(self, **changes)

    def enqueue_many(self, calls: Iterable[Call]) -> list[AnyResult]:
        """Enqueue the task once for each `(args, kwargs)`, in that order and in few round trips.

        Waits for the commit as `enqueue` does. If Redis goes away in the middle, the first so many are enqueued.
        """
        backend = self.get_backend()
        if hasattr(backend, "enqueue_many"):
            results: list[AnyResult] = backend.enqueue_many(self, calls)
            return results
        return [backend.enqueue(self, args, kwargs) for args, kwargs in calls]  # type: ignore[arg-type]

    async def aenqueue_many(self, calls: Iterable[Call]) -> list[AnyResult]:
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(calls)


def _check_task(task: JobTask) -> None:
    if task.timeout is not None and (not _is_whole(task.timeout) or (task.timeout <= 0 and task.timeout != -1)):  # type: ignore[operator]
        raise InvalidTask(f"timeout must be whole seconds, or -1 for none, not {task.timeout!r}.")
    if task.result_ttl is not None and (not _is_whole(task.result_ttl) or task.result_ttl < 0):  # type: ignore[operator]
        raise InvalidTask(f"result_ttl must be whole seconds, or 0 to remove the job, not {task.result_ttl!r}.")
    if task.ttl is not None and (not _is_number(task.ttl) or task.ttl <= 0):  # type: ignore[operator]
        raise InvalidTask(f"ttl must be seconds above 0, or a timedelta, not {task.ttl!r}.")
    if not isinstance(task.unique, bool | str) or task.unique == "":
        raise InvalidTask(f"unique must be True, False or a key, not {task.unique!r}.")
    if not isinstance(task.on_commit, bool) and task.on_commit not in django_settings.DATABASES:
        raise InvalidTask(f"on_commit must be True, False or an alias of DATABASES, not {task.on_commit!r}.")


def _priority(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRIORITIES:
        raise InvalidTask(f"priority must be -100 to 100 or one of {', '.join(PRIORITIES)}, not {value!r}.")
    return PRIORITIES[value]


def _seconds(value: Any) -> Any:
    """A timedelta as seconds, whole ones if it is one second or more; anything else as it is."""
    if not isinstance(value, timedelta):
        return value
    seconds = value.total_seconds()
    return int(seconds) if seconds == int(seconds) else seconds


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(what: str, value: Any) -> None:
    if not _is_number(value) or value < 0:
        raise InvalidTask(f"{what} must be a number, 0 or more, not {value!r}.")


def _backoff_path(backoff: Any) -> str:
    if isfunction(backoff) and "<" not in backoff.__qualname__:
        return f"{backoff.__module__}.{backoff.__qualname__}"
    if backoff in {"exponential", "fixed"} or _is_path(backoff):
        return str(backoff)
    raise InvalidTask(
        f"retry: backoff must be 'exponential', 'fixed', or a function of a module or its path, not {backoff!r}."
    )


def _exception_paths(kinds: Any) -> tuple[str, ...]:
    if isinstance(kinds, str | type) or not isinstance(kinds, Iterable):
        raise InvalidTask(f"retry: only_for must be a list of exceptions, not {kinds!r}.")
    return tuple(map(_exception_path, kinds))


def _exception_path(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(kind, str) and hasattr(builtins, kind):
        return f"builtins.{kind}"
    if _is_path(kind):
        return str(kind)
    raise InvalidTask(f"retry: only_for takes exception classes and their dotted paths, not {kind!r}.")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split("."))


def _is_a(error: BaseException, path: str) -> bool:
    """By name first: the class need not be where the worker can import it."""
    if any(f"{kind.__module__}.{kind.__qualname__}" == path for kind in type(error).__mro__):
        return True
    try:
        return isinstance(error, import_string(path))
    except (ImportError, TypeError):
        logger.warning("retry only_for=%s is not an exception that can be imported", path)
        return False


def _ask(path: str, retries_done: int) -> float | None:
    """What a backoff function says, or None if that is no number of seconds: a job must not be lost over it."""
    try:
        delay = import_string(path)(retries_done)
        if _is_number(delay) and delay >= 0:
            return float(delay)
    except Exception:
        logger.exception("backoff failed path=%s, taking the exponential one", path)
    else:
        logger.error("backoff path=%s returned %r, taking the exponential one", path, delay)
    return None
