"""The `TASKS` backend: Django's tasks as RQ jobs.

    TASKS = {"default": {"BACKEND": "scaling_kit.jobs.RQBackend", "QUEUES": ["high", "default", "low"]}}

The queues are those of `RQ_QUEUES`. OPTIONS["DATABASE"] names the database whose commit `enqueue` waits for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone
from rq.utils import utcformat

from scaling_kit import members
from scaling_kit.jobs import queues, results
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.enqueuing import UNIQUE_FIELD, enqueue, enqueue_many, prepared, unique_key
from scaling_kit.jobs.job import RUN_TASK, TASK_FIELD, Job
from scaling_kit.jobs.tasks import (
    BaseTaskBackend,
    JobTask,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
)
from scaling_kit.prepared import PreparedJob

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult, AnyTask, Call

logger = logging.getLogger(__name__)

# Of JSON so short, compression costs more time than it saves room.
COMPRESS_FROM_BYTES = 1024


class RQBackend(BaseTaskBackend):
    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(  # type: ignore[override]
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AnyResult:
        """Enqueue when the surrounding transaction commits, or at once if there is none.

        A rolled-back transaction enqueues nothing. Safe against lost replies: the job is enqueued once. A unique task
        whose like waits or runs is not: then the result is that one's, inside a transaction as soon as it commits.
        Raises `redis.RedisError` when Redis does not answer; inside a transaction that is raised after its commit.
        """
        self.validate_task(task)
        result = self._result(task, args, kwargs)
        job = self._prepare(task, result.args, result.kwargs, result.id)
        self._when_committed(task, partial(self._push, task, [job], [result]))
        return result

    def enqueue_many(self, task: AnyTask, calls: Iterable[Call]) -> list[AnyResult]:
        """What `JobTask.enqueue_many` does."""
        self.validate_task(task)
        results = [self._result(task, args, kwargs) for args, kwargs in calls]
        jobs = [self._prepare(task, result.args, result.kwargs, result.id) for result in results]
        if jobs:
            self._when_committed(task, partial(self._push, task, jobs, results))
        return results

    def prepare(
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any], *, job_id: str = ""
    ) -> PreparedJob:
        """The Redis writes that enqueue the task, for a script that does something else in the same step.

        `task.run_after` is not in them, nor is the lock of a unique task. Raises `TypeError` for arguments that are
        not JSON.
        """
        arguments: Any = normalize_json({"args": list(args), "kwargs": dict(kwargs)})
        return self._prepare(task, **arguments, job_id=job_id or uuid4().hex)

    def get_result(self, result_id: str) -> AnyResult:
        """Raises `TaskResultDoesNotExist`, also when the outcome is older than SCALING_KIT_JOBS_RESULT_TTL_SECONDS."""
        for queue_name in {queues.url(name): name for name in queues.names()}.values():
            found = self._fetch(queue_name, result_id)
            if found is not None:
                return found
        raise TaskResultDoesNotExist(result_id)

    def _result(self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> AnyResult:
        """Its arguments are normalized: `TypeError` for what is not JSON."""
        return TaskResult(
            task=task,
            id=uuid4().hex,
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def _prepare(self, task: AnyTask, args: list[Any], kwargs: dict[str, Any], job_id: str) -> PreparedJob:
        # RQ's Job.create and to_dict would write the same, in three times the time.
        path, now = task.module_path, utcformat(timezone.now())
        option = partial(getattr, task)
        retry, unique, result_ttl = option("retry", None), option("unique", False), option("result_ttl", None)
        written = {
            "path": path,
            "backend": self.alias,
            "queue": task.queue_name,
            "priority": task.priority,
            "run_after": task.run_after.isoformat() if task.run_after else None,
            "retry": retry.to_dict() if retry is not None else None,
        }
        fields: dict[str, str | bytes] = {
            "created_at": now,
            "enqueued_at": now,
            "data": _packed(json.dumps([RUN_TASK, None, [path, args, kwargs], {}]).encode()),
            "origin": task.queue_name,
            "description": path,
            "timeout": str(self._timeout(task)),
            "result_ttl": str(settings.RESULT_TTL_SECONDS if result_ttl is None else result_ttl),
            "failure_ttl": str(settings.FAILURE_TTL_SECONDS),
            "status": "queued",
            TASK_FIELD: json.dumps(written),
            "kit_priority": str(task.priority),
        }
        if retry is not None:
            fields["retries_left"] = str(retry.count)
        if option("ttl", None) is not None:
            fields["kit_expires_at"] = repr(_due_at(task) + option("ttl"))
        if unique:
            fields[UNIQUE_FIELD] = unique_key(path, unique, args, kwargs)
        return prepared(task.queue_name, job_id, fields, task.priority)

    def _timeout(self, task: AnyTask) -> int:
        own: int | None = getattr(task, "timeout", None)
        return own or queues.config(task.queue_name).get("DEFAULT_TIMEOUT") or settings.TIMEOUT_SECONDS

    def _when_committed(self, task: AnyTask, push: Callable[[], None]) -> None:
        on_commit = getattr(task, "on_commit", True)
        if on_commit is not False and self._in_transaction(on_commit):
            transaction.on_commit(push, using=self._database(on_commit))
        else:
            push()

    def _push(self, task: AnyTask, jobs: Sequence[PreparedJob], results: Sequence[AnyResult]) -> None:
        run_at = _epoch_seconds(task.run_after)
        if len(jobs) == 1:
            there = [enqueue(task.queue_name, jobs[0], run_at=run_at)]
        else:
            there = enqueue_many(task.queue_name, jobs, run_at=run_at)
        enqueued_at = timezone.now()
        for result, job_id in zip(results, there, strict=True):
            if job_id == result.id:
                members.count("jobs.enqueued")
                object.__setattr__(result, "enqueued_at", enqueued_at)
                task_enqueued.send(type(self), task_result=result)
            else:
                self._become(result, job_id)

    def _become(self, result: AnyResult, holder_id: str) -> None:
        """Make it the result of the job that is there instead; of which only the id is known if it has just ended."""
        logger.info("task not enqueued path=%s unique_job=%s", result.task.module_path, holder_id)
        object.__setattr__(result, "id", holder_id)
        with contextlib.suppress(TaskResultDoesNotExist, results.NotATaskError):
            held = self.get_result(holder_id)
            for field in dataclasses.fields(result):
                object.__setattr__(result, field.name, getattr(held, field.name))

    def _in_transaction(self, on_commit: bool | str) -> bool:
        # Asked here because Django's on_commit connects to the database, which an enqueue need not need.
        return bool(transaction.get_connection(self._database(on_commit)).in_atomic_block)

    def _database(self, on_commit: bool | str) -> str:
        return on_commit if isinstance(on_commit, str) else self.options.get("DATABASE", DEFAULT_DB_ALIAS)

    def _fetch(self, queue_name: str, result_id: str) -> AnyResult | None:
        redis = queues.connection(queue_name)
        pipeline = redis.pipeline(transaction=False)
        pipeline.hgetall(queues.job_key(result_id))
        pipeline.hgetall(queues.record_key(result_id))
        fields, record = pipeline.execute()
        if TASK_FIELD.encode() not in fields:
            return None
        job = Job(result_id, connection=redis)
        job.restore(fields)
        return results.task_result(job, results.decoded(record))


def _packed(data: bytes) -> bytes:
    """Compressed if that is worth the time. RQ reads either."""
    return zlib.compress(data) if len(data) > COMPRESS_FROM_BYTES else data


def _due_at(task: AnyTask) -> float:
    return max(time.time(), task.run_after.timestamp()) if task.run_after else time.time()


def _epoch_seconds(run_after: datetime | None) -> float | None:
    """When a job is to run, or None if that is now."""
    if run_after is None or run_after.timestamp() <= timezone.now().timestamp():
        return None
    return run_after.timestamp()
