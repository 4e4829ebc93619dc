"""The `TASKS` backend: Django's tasks as RQ jobs.

    TASKS = {"default": {"BACKEND": "scaling_kit.jobs.RQBackend", "QUEUES": ["high", "default", "low"]}}

The queues are those of `RQ_QUEUES`. OPTIONS["DATABASE"] names the database whose commit `enqueue` waits for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now

from scaling_kit import members
from scaling_kit.jobs import queues, results
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.job import RUN_TASK, TASK_FIELD, Job
from scaling_kit.jobs.tasks import (
    BaseTaskBackend,
    InvalidTask,
    JobTask,
    Retry,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
)
from scaling_kit.prepared import PreparedJob

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult, AnyTask


class RQBackend(BaseTaskBackend):
    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: AnyTask) -> None:
        super().validate_task(task)
        timeout = getattr(task, "timeout", None)
        if timeout is not None and (not isinstance(timeout, int) or (timeout <= 0 and timeout != -1)):
            raise InvalidTask(f"timeout must be whole seconds, or -1 for none, not {timeout!r}.")

    def enqueue(  # type: ignore[override]
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AnyResult:
        """Enqueue when the surrounding transaction commits, or at once if there is none.

        A rolled-back transaction enqueues nothing. Safe against lost replies: the job is enqueued once. Raises
        `redis.RedisError` when Redis does not answer; inside a transaction that is raised after its commit.
        """
        self.validate_task(task)
        job = self.prepare(task, args, kwargs)
        result: AnyResult = TaskResult(
            task=task,
            id=job.id,
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
        push = partial(self._push, task, job, result)
        on_commit = getattr(task, "on_commit", True)
        if on_commit is not False and self._in_transaction(on_commit):
            transaction.on_commit(push, using=self._database(on_commit))
        else:
            push()
        return result

    def prepare(
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any], *, job_id: str = ""
    ) -> PreparedJob:
        """The Redis writes that enqueue the task, for a script that does something else in the same step.

        `task.run_after` is not in them. Raises `TypeError` for arguments that are not JSON.
        """
        job = self._job(task, [normalize_json(list(args)), normalize_json(dict(kwargs))], job_id)
        policy = getattr(task, "retry", None)
        written = {
            "path": task.module_path,
            "backend": self.alias,
            "queue": task.queue_name,
            "priority": task.priority,
            "run_after": task.run_after.isoformat() if task.run_after else None,
            "retry": Retry.of(policy).to_dict() if policy is not None else None,
        }
        fields = {name: value if isinstance(value, bytes) else _text(value) for name, value in job.to_dict().items()}
        fields |= {TASK_FIELD: json.dumps(written), "kit_priority": str(task.priority)}
        return queues.prepared(task.queue_name, job.id, fields, task.priority)

    def get_result(self, result_id: str) -> AnyResult:
        """Raises `TaskResultDoesNotExist`, also when the outcome is older than SCALING_KIT_JOBS_RESULT_TTL_SECONDS."""
        for queue_name in {queues.url(name): name for name in queues.names()}.values():
            found = self._fetch(queue_name, result_id)
            if found is not None:
                return found
        raise TaskResultDoesNotExist(result_id)

    def _job(self, task: AnyTask, arguments: list[Any], job_id: str) -> RQJob:
        job = Job.create(
            RUN_TASK,
            args=(task.module_path, *arguments),
            connection=queues.connection(task.queue_name),
            serializer=JSONSerializer,
            id=job_id or get_random_string(32),
            origin=task.queue_name,
            timeout=self._timeout(task),
            result_ttl=settings.RESULT_TTL_SECONDS,
            failure_ttl=settings.FAILURE_TTL_SECONDS,
            description=task.module_path,
            status=JobStatus.QUEUED,
        )
        job.enqueued_at = now()
        if getattr(task, "retry", None) is not None:
            job.retries_left = Retry.of(task.retry).count  # type: ignore[attr-defined, unused-ignore]
        return job

    def _timeout(self, task: AnyTask) -> int:
        config = queues.config(task.queue_name)
        return getattr(task, "timeout", None) or config.get("DEFAULT_TIMEOUT") or settings.TIMEOUT_SECONDS

    def _push(self, task: AnyTask, job: PreparedJob, result: AnyResult) -> None:
        run_at = _epoch_seconds(task.run_after)
        if run_at is not None:
            job = _scheduled(job)
        queues.enqueue(task.queue_name, job, run_at=run_at)
        members.count("jobs.enqueued")
        object.__setattr__(result, "enqueued_at", timezone.now())
        task_enqueued.send(type(self), task_result=result)

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


def _text(value: object) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


def _epoch_seconds(run_after: datetime | None) -> float | None:
    """When a job is to run, or None if that is now."""
    if run_after is None or run_after.timestamp() <= timezone.now().timestamp():
        return None
    return run_after.timestamp()


def _scheduled(job: PreparedJob) -> PreparedJob:
    return replace(job, fields={**job.fields, "status": JobStatus.SCHEDULED.value})
