"""Django's Tasks API, from Django 6 or from the django-tasks backport, and what the kit's `@task` adds to it.

    @task(retry=3, timeout=60)
    def resize(photo_id: int) -> None: ...

The only place that knows which of the two it is: import the names from here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import django
from django.utils import timezone

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    from django_tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskError
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json

if TYPE_CHECKING:
    AnyTask: TypeAlias = Task[..., Any]
    AnyResult: TypeAlias = TaskResult[..., Any]

__all__ = [
    "BaseTaskBackend",
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


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, and when, a task that raised is run again.

    `count` is the number of further attempts. They wait `delays` seconds, the last delay repeating; without
    `delays`, `first_seconds` doubled each time up to `max_seconds`. `jitter=0.1` makes each up to 10 % longer, so
    that jobs which failed together do not come back together.
    """

    count: int = 3
    delays: tuple[float, ...] = ()
    first_seconds: float = 1.0
    max_seconds: float = 3600.0
    jitter: float = 0.1

    @classmethod
    def of(cls, value: Retry | int | Sequence[float]) -> Retry:
        """A `Retry`, from the number of retries or from their delays in seconds. Raises `InvalidTask`."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = cls(count=value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = cls(count=len(value), delays=tuple(value), jitter=0.0)
        if not isinstance(value, Retry) or value.count < 0 or min((*value.delays, value.first_seconds)) < 0:
            raise InvalidTask(f"retry must be a Retry, a number of retries or a list of delays, not {value!r}.")
        return value

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Retry:
        return cls(**{**fields, "delays": tuple(fields["delays"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def applies_to(self, _error: BaseException) -> bool:
        return True

    def delay_seconds(self, retries_done: int) -> float:
        """How long to wait before the next attempt."""
        if self.delays:
            delay = self.delays[min(retries_done, len(self.delays) - 1)]
        else:
            delay = min(self.first_seconds * 2.0 ** min(retries_done, 64), self.max_seconds)
        return delay * (1 + random.uniform(0, self.jitter))  # noqa: S311  (no secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTask(Task):  # type: ignore[type-arg]
    """What `@task` makes with this backend. Beside Django's own arguments:

    `retry`: a `Retry`, a number of retries, or a list of delays in seconds. Default: an exception is final.
    `run_after`, in `using()`, may also be a timedelta from now.
    `timeout`: seconds, or a timedelta, after which the running task is ended with an exception.
    `on_commit`: True (default) enqueues when the transaction on OPTIONS["DATABASE"] commits, the alias of a
    database when that one's does, False at once.
    """

    retry: Retry | int | Sequence[float] | None = None
    timeout: int | timedelta | None = None
    on_commit: bool | str = True

    def __post_init__(self) -> None:
        if self.retry is not None:
            object.__setattr__(self, "retry", Retry.of(self.retry))
        if isinstance(self.run_after, timedelta):
            object.__setattr__(self, "run_after", timezone.now() + self.run_after)
        if isinstance(self.timeout, timedelta):
            object.__setattr__(self, "timeout", int(self.timeout.total_seconds()))
        Task.__post_init__(self)
