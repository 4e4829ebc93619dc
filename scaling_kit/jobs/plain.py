"""Plain RQ jobs, enqueued as carefully as tasks: after the commit, and once however often a reply is lost.

    RQ_QUEUES = {"default": {"URL": REDIS_URL, "QUEUE_CLASS": "scaling_kit.jobs.plain.Queue"}}

django-rq's own queue defers `enqueue` and `delay` only, and loses a job with `pipeline=` inside a transaction.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import redis
import rq.queue
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django_rq.queues import DjangoRQ
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus
from rq.queue import EnqueueData
from rq.utils import now

from scaling_kit.jobs import queues
from scaling_kit.redis import Script, ScriptCall, key

logger = logging.getLogger(__name__)

ENQUEUE = Script.beside(__file__, "enqueue_plain", idempotent=True)


class Queue(DjangoRQ):
    """A queue of django-rq for which every way of enqueuing waits for the commit of the surrounding transaction.

    That is `enqueue`, `enqueue_call`, `@job`'s `delay`, `enqueue_at`, `enqueue_in`, `enqueue_many` and `enqueue_job`,
    with `pipeline=` too, which is then left alone. They return the jobs, which are written when the transaction
    commits; one that is rolled back writes nothing. A duplicate of `unique=True` that is found only then is logged.
    `get_queue(..., commit_mode="auto")`, or RQ["COMMIT_MODE"], enqueues at once, as with django-rq.
    """

    database = DEFAULT_DB_ALIAS
    """The database whose transactions are waited for."""

    def enqueue_call(self, *args: Any, **kwargs: Any) -> Any:
        if self._commit_mode == "request_finished":
            return super().enqueue_call(*args, **kwargs)  # type: ignore[no-untyped-call]
        # This comes to enqueue_job, which waits.
        return self.original_enqueue_call(*args, **kwargs)  # type: ignore[no-untyped-call]

    def enqueue_job(
        self, job: Job, pipeline: Pipeline | None = None, at_front: bool = False, unique: bool = False
    ) -> Job:
        if not self._waits_for_commit():
            return self._enqueue_now(job, pipeline, at_front, unique)
        self._check_unique(job, unique)
        self._when_committed([job], partial(self._enqueue_now, job, None, at_front, unique))
        return job

    def schedule_job(
        self,
        job: Job,
        datetime: datetime,  # (RQ's name)
        pipeline: Pipeline | None = None,
        unique: bool = False,
    ) -> Job:
        if not self._waits_for_commit():
            return self._schedule_now(job, datetime, pipeline, unique)
        self._check_unique(job, unique)
        self._when_committed([job], partial(self._schedule_now, job, datetime, None, unique))
        return job

    def enqueue_many(
        self, job_datas: Iterable[EnqueueData], pipeline: Pipeline | None = None, group_id: str | None = None
    ) -> list[Job]:
        waits = self._waits_for_commit()
        if pipeline is not None and not waits:
            return super().enqueue_many(job_datas, pipeline, group_id)
        made = [(self._made(data, group_id), data.at_front) for data in _with_ids(job_datas)]
        if waits:
            self._when_committed([job for job, _ in made], partial(self._enqueue_many_now, made))
        else:
            self._enqueue_many_now(made)
        return [job for job, _ in made]

    # --- after the commit, or without one

    def _waits_for_commit(self) -> bool:
        in_transaction = transaction.get_connection(self.database).in_atomic_block
        return bool(self._commit_mode == "on_db_commit" and in_transaction)

    def _when_committed(self, jobs: Sequence[Job], enqueue: Callable[[], Any]) -> None:
        for job in jobs:
            job.id, job.data  # noqa: B018  (an id, and the arguments as they are now; RQ makes both when first asked)
        transaction.on_commit(partial(_logging_duplicates, enqueue), using=self.database)

    def _enqueue_now(self, job: Job, pipeline: Pipeline | None, at_front: bool, unique: bool) -> Job:
        if pipeline is not None:
            return super().enqueue_job(job, pipeline=pipeline, at_front=at_front, unique=unique)
        if not self._is_simple(job):
            return rq.queue.Queue.enqueue_job(self._unrepeated(), job, at_front=at_front, unique=unique)
        self._check_unique(job, unique)
        self._prepare(job)
        self._write(job, self._script_call(job, at_front=at_front, unique=unique))
        return job

    def _schedule_now(self, job: Job, moment: datetime, pipeline: Pipeline | None, unique: bool) -> Job:
        if pipeline is not None:
            return super().schedule_job(job, moment, pipeline=pipeline, unique=unique)
        self._check_rate_limit_namespace(job)
        self._check_unique(job, unique)
        job._status = JobStatus.SCHEDULED
        aware = moment if moment.tzinfo else moment.astimezone()  # as RQ does
        self._write(job, self._script_call(job, unique=unique, run_at=aware.timestamp()))
        return job

    def _enqueue_many_now(self, made: Sequence[tuple[Job, bool]]) -> None:
        simple = [(job, at_front) for job, at_front in made if self._is_simple(job)]
        for job, _ in simple:
            self._prepare(job)
        calls = [self._script_call(job, at_front=at_front) for job, at_front in simple]
        ENQUEUE.call_many(self._producer(), calls)
        for job, at_front in made:
            if not self._is_simple(job):
                self._enqueue_now(job, None, at_front, unique=False)

    # --- one job

    def _made(self, data: EnqueueData, group_id: str | None) -> Job:
        fields = {name: value for name, value in data._asdict().items() if name != "at_front"}
        return self.create_job(**fields, group_id=group_id)

    def _is_simple(self, job: Job) -> bool:
        """Whether writing it is all there is to do: what it depends on, or is limited by, is RQ's to look after."""
        return bool(self._is_async and not job._dependency_ids and not job.has_rate_limit)

    def _check_unique(self, job: Job, unique: bool) -> None:
        """What RQ refuses, before the commit: there the caller can still be told."""
        if unique and not job._id:
            raise ValueError("unique=True requires an explicit job_id")
        if unique and (job._dependency_ids or job.has_rate_limit):
            raise ValueError("unique=True is not supported with dependencies or a rate limit")

    def _prepare(self, job: Job) -> None:
        job.origin, job.enqueued_at, job._status = self.name, now(), JobStatus.QUEUED
        if job.timeout is None:
            job.timeout = self._default_timeout

    def _write(self, job: Job, call: ScriptCall) -> None:
        keys, args = call
        if not ENQUEUE(self._producer(), keys, args):
            raise DuplicateJobError(f"Job with ID {job.id!r} already exists")

    def _script_call(
        self, job: Job, *, at_front: bool = False, unique: bool = False, run_at: float | None = None
    ) -> ScriptCall:
        target = self.key if run_at is None else queues.scheduled_key(self.name)
        args = [
            job.id,
            self.key,
            "" if run_at is None else repr(run_at),
            "LPUSH" if at_front else "RPUSH",
            int(unique),
            job.ttl or "",
            queues.event_channel(job.id),
            self.name,
        ]
        for name, value in job.to_dict().items():
            args += [name, value if isinstance(value, bytes | str) else str(value)]
        return [job.key, self.redis_queues_keys, target, key("jobs", "enqueued", uuid4().hex)], args

    # --- connections

    def _producer(self) -> redis.Redis:
        """A client that does not repeat by itself what may be written once only.

        The kit's if it leads to the same place (django-rq makes a client, and connects, for every queue object).
        """
        with contextlib.suppress(ImproperlyConfigured):
            kits = queues.connection(self.name)
            if _place(kits) == _place(self.connection):
                return kits
        return self._own_producer

    @cached_property
    def _own_producer(self) -> redis.Redis:
        pool = self.connection.connection_pool
        if type(pool) is not redis.ConnectionPool:
            return self.connection  # of a Sentinel, say: it is not ours to imitate
        options = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis.from_pool(redis.ConnectionPool(connection_class=pool.connection_class, **options))

    def _unrepeated(self) -> Queue:
        """This queue, as RQ has it write what more than one script is needed for."""
        twin = copy(self)
        twin._commit_mode = "auto"
        twin.connection = self._producer()
        return twin


def _with_ids(job_datas: Iterable[EnqueueData]) -> list[EnqueueData]:
    """With an id each. Raises `ValueError` if two have the same."""
    found = [data if data.job_id else data._replace(job_id=str(uuid4())) for data in job_datas]
    seen: set[str] = set()
    for data in found:
        if data.job_id in seen:
            raise ValueError(f"Job ID {data.job_id!r} appears more than once in enqueue_many()")
        seen.add(data.job_id)
    return found


def _logging_duplicates(enqueue: Callable[[], Any]) -> None:
    """Nobody is there any more to catch it, and it would keep others from being told of the commit."""
    try:
        enqueue()
    except DuplicateJobError as error:
        logger.warning("job not enqueued: %s", error)


def _place(connection: redis.Redis) -> tuple[Any, ...]:
    options = connection.connection_pool.connection_kwargs
    return tuple(options.get(name) or default for name, default in _DEFAULTS.items())


_DEFAULTS = {"host": "localhost", "port": 6379, "db": 0, "path": "", "username": "", "password": ""}
