"""What Django's Tasks API shows of a job: from RQ's job and the record of its attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string
from rq.job import JobStatus

from scaling_kit.jobs.job import Job
from scaling_kit.jobs.tasks import Task, TaskError, TaskResult, TaskResultStatus, task_finished

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult, AnyTask

STATUSES = {
    JobStatus.STARTED: TaskResultStatus.RUNNING,
    JobStatus.FINISHED: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.STOPPED: TaskResultStatus.FAILED,
    JobStatus.CANCELED: TaskResultStatus.FAILED,
}
ENDED = {TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL}


class NotATaskError(Exception):
    """The job names something that is not a task."""


def find_task(path: str) -> AnyTask:
    """The task of that dotted path. Raises `NotATaskError`."""
    try:
        found = import_string(path)
    except ImportError as error:
        raise NotATaskError(f"There is no task {path!r} in this release: {error}") from error
    if not isinstance(found, Task):
        raise NotATaskError(f"{path!r} is a {type(found).__name__}, not a task")
    return found


def task_result(job: Job, record: Mapping[str, str]) -> AnyResult:
    """What Django's Tasks API shows of a job. Raises `NotATaskError` if the task no longer exists."""
    if job.task is None:
        raise NotATaskError(f"The job {job.id} was not enqueued as a task")
    status = STATUSES.get(job.get_status(refresh=False), TaskResultStatus.READY)
    _, args, kwargs = job.args
    result: AnyResult = TaskResult(
        task=_as_enqueued(job.task),
        id=job.id,
        status=status,
        enqueued_at=_aware(job.enqueued_at or job.created_at),
        started_at=_moment(record.get("started_at")),
        last_attempted_at=_moment(record.get("last_attempted_at")),
        finished_at=_aware(job.ended_at) if status in ENDED else None,
        args=args,
        kwargs=kwargs,
        backend=job.task["backend"],
        errors=[TaskError(**json.loads(record[field])) for field in _numbered(record, "error")],
        worker_ids=[record[field] for field in _numbered(record, "worker")],
    )
    if status == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", json.loads(record.get("return_value", "null")))
    return result


def announce(result: AnyResult, status: TaskResultStatus, finished_at: datetime) -> None:
    """Tell the receivers of `task_finished`."""
    object.__setattr__(result, "finished_at", finished_at)
    object.__setattr__(result, "status", status)
    task_finished.send(type(result.task.get_backend()), task_result=result)


def decoded(record: Mapping[bytes, bytes]) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in record.items()}


def _as_enqueued(written: Mapping[str, Any]) -> AnyTask:
    """The task with what `using()` had changed."""
    return _changed(
        find_task(written["path"]), written["backend"], written["queue"], written["priority"], written["run_after"]
    )


@lru_cache(maxsize=256)  # making one validates it: a tenth of what a short job costs
def _changed(task: AnyTask, backend: str, queue: str, priority: int, run_after: str | None) -> AnyTask:
    return replace(task, backend=backend, queue_name=queue, priority=priority, run_after=_moment(run_after))


def _numbered(record: Mapping[str, str], name: str) -> list[str]:
    """`error:1`, `error:2`, ... in the order of the attempts."""
    found = [field for field in record if field.startswith(f"{name}:")]
    return sorted(found, key=lambda field: int(field.partition(":")[2]))


def _moment(text: str | None) -> datetime | None:
    return _aware(datetime.fromisoformat(text)) if text else None


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
