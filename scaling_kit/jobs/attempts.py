"""Running a task, and the record of its attempts, errors and outcome that `get_result` reads."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.module_loading import import_string
from rq import get_current_job
from rq.job import Job as RQJob
from rq.job import JobStatus

from scaling_kit.jobs import queues
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.tasks import (
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult, AnyTask

logger = logging.getLogger(__name__)

STATUSES = {
    JobStatus.STARTED: TaskResultStatus.RUNNING,
    JobStatus.FINISHED: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.STOPPED: TaskResultStatus.FAILED,
    JobStatus.CANCELED: TaskResultStatus.FAILED,
}


class NotATaskError(Exception):
    """The job names something that is not a task."""


class ProcessDiedError(Exception):
    """The process that ran the task died."""


def run_task(path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The function that every job of `RQBackend` calls, in the worker. Runs nothing that is not a task."""
    job = get_current_job()
    if not isinstance(job, Job) or job.task is None:
        raise NotATaskError("Only a job that was made by RQBackend runs a task")
    find_task(path)
    result = _begin(job)
    task_started.send(type(result.task.get_backend()), task_result=result)
    begun_at = time.monotonic()
    try:
        value = normalize_json(_call(result, args, kwargs))
    except BaseException as error:
        _fail(job, result, error)
        raise
    _succeed(job, result, value)
    logger.info("task succeeded id=%s path=%s seconds=%.3f", job.id, path, time.monotonic() - begun_at)
    return value


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
        finished_at=_aware(job.ended_at) if status in {TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL} else None,
        args=args,
        kwargs=kwargs,
        backend=job.task["backend"],
        errors=[TaskError(**json.loads(record[field])) for field in _numbered(record, "error")],
        worker_ids=[record[field] for field in _numbered(record, "worker")],
    )
    if status == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", json.loads(record.get("return_value", "null")))
    return result


def announce_death(job: RQJob) -> None:
    """Tell the receivers of `task_finished` that a task is given up because its process died too often."""
    if not isinstance(job, Job) or job.task is None:
        return
    result = task_result(job, decoded(job.connection.hgetall(queues.record_key(job.id))))
    task_finished.send(type(result.task.get_backend()), task_result=result)


def _call(result: AnyResult, args: list[Any], kwargs: dict[str, Any]) -> Any:
    context: list[Any] = [TaskContext(task_result=result)] if result.task.takes_context else []
    return result.task.call(*context, *args, **kwargs)


def _begin(job: Job) -> AnyResult:
    now = timezone.now().isoformat()
    key = queues.record_key(job.id)
    *_, record = _write(
        job,
        ("HSETNX", key, "started_at", now),
        ("HSET", key, "last_attempted_at", now, f"worker:{job.attempts}", job.worker_name or ""),
        ("EXPIRE", key, settings.FAILURE_TTL_SECONDS),
        ("HGETALL", key),
    )
    return task_result(job, decoded(record))


def _succeed(job: Job, result: AnyResult, value: Any) -> None:
    key = queues.record_key(job.id)
    _write(job, ("HSET", key, "return_value", json.dumps(value)), ("EXPIRE", key, settings.RESULT_TTL_SECONDS))
    object.__setattr__(result, "_return_value", value)
    _finish(result, TaskResultStatus.SUCCESSFUL)


def _fail(job: Job, result: AnyResult, error: BaseException) -> None:
    kind = type(error)
    fields = {
        "exception_class_path": f"{kind.__module__}.{kind.__qualname__}",
        "traceback": "".join(format_exception(error)),
    }
    result.errors.append(TaskError(**fields))
    _write(job, ("HSET", queues.record_key(job.id), f"error:{job.attempts}", json.dumps(fields)))
    if job.should_retry:
        logger.warning("task will be retried id=%s attempt=%s error=%r", job.id, job.attempts, error)
    else:
        _finish(result, TaskResultStatus.FAILED)


def _write(job: Job, *commands: tuple[Any, ...]) -> list[Any]:
    """Write to the record, through an outage of Redis: writing it twice does no harm, not writing it would."""

    def attempt() -> list[Any]:
        pipeline = job.connection.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute()

    return queues.insist(attempt)


def _finish(result: AnyResult, status: TaskResultStatus) -> None:
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "status", status)
    task_finished.send(type(result.task.get_backend()), task_result=result)


def _as_enqueued(written: Mapping[str, Any]) -> AnyTask:
    """The task with what `using()` had changed."""
    return replace(
        find_task(written["path"]),
        backend=written["backend"],
        queue_name=written["queue"],
        priority=written["priority"],
        run_after=_moment(written["run_after"]),
    )


def _numbered(record: Mapping[str, str], name: str) -> list[str]:
    """`error:1`, `error:2`, ... in the order of the attempts."""
    found = [field for field in record if field.startswith(f"{name}:")]
    return sorted(found, key=lambda field: int(field.partition(":")[2]))


def decoded(record: Any) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in record.items()}


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
