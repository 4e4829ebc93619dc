"""One attempt of a task: run it, and record how it ended."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import rq.job
from django.utils import timezone
from rq.job import JobStatus
from rq.timeouts import BaseDeathPenalty, JobTimeoutException

from scaling_kit.jobs import queues, results, transitions
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.interrupts import JobStopped
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.tasks import TaskContext, TaskError, TaskResultStatus, normalize_json, task_started
from scaling_kit.jobs.transitions import Claimed, Ended

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult

logger = logging.getLogger(__name__)


def run_task(path: str, *_: Any) -> None:
    """What every job of `RQBackend` names as its function. RQ's own workers cannot run it, the kit's do not call it."""
    raise results.NotATaskError(f"The task {path!r} is run by `manage.py runworkers` only")


class Attempt:
    """An attempt of the task that a worker has claimed. `slot` is the worker's thread."""

    def __init__(self, job: Job, claimed: Claimed, *, worker: str, slot: int = 0) -> None:
        self.job = job
        self.claimed = claimed
        self.worker = worker
        self.slot = slot
        self.result: AnyResult | None = None
        self._begun_at = time.monotonic()

    def run(self, deadline: type[BaseDeathPenalty]) -> None:
        """Run the task and record how that ended. Waits for Redis as long as it takes."""
        try:
            value = self._call(deadline)
        except BaseException as error:
            self._fail(error)
        else:
            self._succeed(value)

    def _call(self, deadline: type[BaseDeathPenalty]) -> Any:
        self.result = result = results.task_result(self.job, results.decoded(self.claimed.record))
        context: list[Any] = [TaskContext(task_result=result)] if result.task.takes_context else []
        task_started.send(type(result.task.get_backend()), task_result=result)
        limit = self.job.timeout or settings.TIMEOUT_SECONDS
        with _as_current(self.job), deadline(limit, JobTimeoutException, job_id=self.job.id):
            return normalize_json(result.task.call(*context, *result.args, **result.kwargs))

    def _succeed(self, value: Any) -> None:
        text = json.dumps(value)
        ttl = self.job.result_ttl if self.job.result_ttl is not None else settings.RESULT_TTL_SECONDS
        for_rq = base64.b64encode(text.encode()) if value is not None else b""
        if self._end("successful", ttl, text, for_rq):
            object.__setattr__(self.result, "_return_value", value)
            self._announce(TaskResultStatus.SUCCESSFUL)

    def _fail(self, error: BaseException) -> None:
        text = "".join(format_exception(error))
        for_record, for_rq = transitions.error(type(error), text), transitions.rq_error(text)
        delay = None if isinstance(error, JobStopped) else self.job.retry_delay_seconds(error)
        if self.result is not None:
            self.result.errors.append(TaskError(**json.loads(for_record)))
        if delay is not None:
            if self._end("retry", delay, for_record, for_rq):
                logger.warning("task will be retried id=%s attempt=%s error=%r", self.job.id, self.job.attempts, error)
            return
        outcome = "stopped" if isinstance(error, JobStopped) else "failed"
        if self._end(outcome, _reason(error), for_record, for_rq):
            logger.warning("task %s id=%s path=%s error=%r", outcome, self.job.id, self._path, error)
            self._announce(TaskResultStatus.FAILED)

    def _end(self, outcome: Any, value: float | str, for_record: str, for_rq: bytes) -> bool:
        ended = Ended(outcome=outcome, value=value, seconds=self._seconds, for_record=for_record, for_rq=for_rq)
        finish = partial(transitions.finish, self.claimed, ended, worker=self.worker, slot=self.slot)
        recorded, has_dependents = queues.insist(finish)
        if not recorded:
            logger.warning("job outcome dropped id=%s worker=%s reason=superseded", self.job.id, self.worker)
        if has_dependents and outcome != "retry":
            self.job._status = JobStatus.FINISHED if outcome == "successful" else JobStatus.FAILED
            queues.insist(partial(queues.stock_queue(self.claimed.queue_name).enqueue_dependents, self.job))
        return recorded

    def _announce(self, status: TaskResultStatus) -> None:
        if self.result is None:
            return  # there is no such task: nothing to tell of
        try:
            results.announce(self.result, status, timezone.now())
        except Exception:
            logger.exception("a receiver of task_finished failed id=%s", self.job.id)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun_at

    @property
    def _path(self) -> str:
        return self.job.task["path"] if self.job.task else ""


def refuse(claimed: Claimed, error: Exception, *, worker: str, slot: int = 0) -> None:
    """Fail a job that cannot even be read."""
    text = "".join(format_exception(error))
    ended = Ended(
        outcome="failed",
        value=_reason(error),
        seconds=0.0,
        for_record=transitions.error(type(error), text),
        for_rq=transitions.rq_error(text),
    )
    queues.insist(partial(transitions.finish, claimed, ended, worker=worker, slot=slot))


@contextmanager
def _as_current(job: Job) -> Iterator[None]:
    """Make it what `rq.get_current_job()` returns."""
    token = rq.job._current_job.set(job)
    try:
        yield
    finally:
        rq.job._current_job.reset(token)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
