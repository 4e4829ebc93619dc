"""What is owed to the jobs of a process that died: to be run again, or to have failed, and that this is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import redis
from django.utils import timezone
from rq.callbacks import execute_stopped_callback
from rq.defaults import RQ_KEY_PREFIX
from rq.job import JobStatus

from scaling_kit.jobs import queues, results, transitions
from scaling_kit.jobs.interrupts import JobStopped, SignalDeadline
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.tasks import TaskResultStatus
from scaling_kit.jobs.transitions import Claimed, Ended
from scaling_kit.lease import Lease

logger = logging.getLogger(__name__)


class Debts:
    """The jobs of workers that have ended, until it is settled who runs them now."""

    def __init__(self, queue_name: str) -> None:
        self._queue_name = queue_name
        self._owed: dict[str, tuple[str, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._owed)

    def owe(self, worker: str, reason: str, *, killed: bool) -> None:
        """`killed` counts against the worker's jobs."""
        self._owed[worker] = (reason, killed)

    def forget(self, worker: str = "") -> None:
        """One worker's, or all."""
        if worker:
            self._owed.pop(worker, None)
        else:
            self._owed.clear()

    def settle(self) -> int:
        """Hand the jobs back, and return how many there were. Raises a connection failure: then call it again."""
        jobs = 0
        for queue_name, job_id, execution_id, worker in last_started_first(self._executions()):
            reason, killed = self._owed[worker]
            try:
                jobs += hand_back_all(worker, [(queue_name, job_id, execution_id)], reason=reason, killed=killed)
            except redis.ResponseError:  # its keys are spoilt, and no other job may wait for that
                logger.exception("job not handed back id=%s worker=%s", job_id, worker)
        for worker in list(self._owed):
            transitions.forget_worker(self._queue_name, worker)
            del self._owed[worker]
        return jobs

    def _executions(self) -> list[tuple[str, str, str, str]]:
        return [
            (*execution, worker)
            for worker in self._owed
            for execution in transitions.executions(self._queue_name, worker)
        ]


def last_started_first(executions: Sequence[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Executions, (queue name, job id, execution id, worker), in the order in which to hand them back.

    Each goes to the head of its queue, so this way the jobs wait there as they had waited before.
    """
    if not executions:
        return []
    pipeline = queues.connection(executions[0][0]).pipeline(transaction=False)
    for _, job_id, execution_id, _ in executions:
        pipeline.hget(f"{RQ_KEY_PREFIX}:execution:{job_id}:{execution_id}", "created_at")
    started_at = dict(zip(executions, (float(text or 0) for text in pipeline.execute()), strict=True))
    return sorted(executions, key=lambda execution: started_at[execution], reverse=True)


def hand_back_all(
    worker: str,
    executions: Sequence[tuple[str, str, str]],
    *,
    reason: str,
    killed: bool,
    lease: Lease | None = None,
    insist: Callable[[Callable[[], str]], str] = lambda action: action(),
) -> int:
    """Hand back what a worker has started and not ended; return how many jobs that were."""
    handed_back = 0
    for queue_name, job_id, execution_id in executions:
        hand_back = partial(transitions.hand_back, queue_name, job_id, execution_id, worker)
        verdict = insist(partial(hand_back, reason=reason, killed=killed, lease=lease))
        if verdict == "no":
            continue
        handed_back += 1
        logger.warning("job handed back id=%s worker=%s verdict=%s reason=%s", job_id, worker, verdict, reason)
        if verdict == "failed":
            give_up(queue_name, job_id)
    return handed_back


def record_stop(claimed: Claimed, *, worker: str) -> None:
    """Record that a job was stopped, by killing the child that ran it. Waits for Redis as long as it takes."""
    text = "Somebody stopped the job"
    ended = Ended(
        outcome="stopped",
        value=text,
        seconds=0.0,
        for_record=transitions.error(JobStopped, text),
        for_rq=transitions.rq_error(text),
    )
    finish = partial(transitions.finish, claimed, ended, worker=worker)
    recorded, _ = queues.insist(finish)
    if recorded:
        logger.info("job stopped id=%s worker=%s", claimed.job_id, worker)
        give_up(claimed.queue_name, claimed.job_id)


def give_up(queue_name: str, job_id: str) -> None:
    """What follows when a job has failed for good and none of its processes lived to see to it."""
    queue = queues.stock_queue(queue_name)
    try:
        job = Job.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
        queue.enqueue_dependents(job)
        if isinstance(job, Job) and job.task is not None:
            record = results.decoded(queue.connection.hgetall(queues.record_key(job_id)))  # type: ignore[arg-type]
            results.announce(results.task_result(job, record), TaskResultStatus.FAILED, timezone.now())
        elif job.get_status(refresh=False) == JobStatus.STOPPED:
            execute_stopped_callback(job, SignalDeadline)
    except Exception:
        logger.exception("job failed, and so did what follows id=%s", job_id)
