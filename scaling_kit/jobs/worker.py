"""A worker process: claims jobs, one at a time, and runs each in a child (`fork`) or in itself (`simple`).

RQ's worker is under it for what happens to a job that ended: results, retries, callbacks, dependents. The loop, the
claim, the heartbeats and the fate of a job whose process died are the kit's.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis
import rq.worker
from django.db import close_old_connections, connections
from rq.executions import Execution
from rq.job import JobStatus
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.utils import now

from scaling_kit import members
from scaling_kit.jobs import attempts, queues
from scaling_kit.jobs.doorbell import Doorbell
from scaling_kit.jobs.job import Job
from scaling_kit.lease import Lease

logger = logging.getLogger(__name__)

# An idle worker looks by itself so often, should the doorbell not ring.
IDLE_SECONDS = 1.0
# A child that does not notice its own timeout, deep in C code, is killed so much later.
HORSE_MARGIN_SECONDS = 30


class Worker(rq.worker.SimpleWorker):
    """One worker. `forks` runs each job in a child of its own; `on_ready` is called when it can take jobs."""

    job_class = Job
    log_job_description = False
    log_result_lifespan = False

    def __init__(self, queue_names: Sequence[str], *, name: str, forks: bool, burst: bool = False) -> None:
        connection = queues.connection(queue_names[0])
        super().__init__([_queue(queue_name, connection) for queue_name in queue_names], name, connection=connection)
        self.forks = forks
        self.burst = burst
        self._stopping = False
        self._redis_reachable = True
        self._execution_id = uuid.uuid4().hex
        self._doorbell = Doorbell(queue_names)
        self._wake_fd, self._signalled_fd = os.pipe()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Work until told to stop (TERM: after the job in hand), or in a burst until the queues are empty."""
        self._listen_to_signals()
        queues.insist(self.register_birth)
        self.member = members.join("worker", state="idle", queues=",".join(self.queue_names()), job="")
        on_ready()
        while not self._stopping:
            claimed = self._claim()
            if claimed:
                self._run(claimed)
            elif self.burst and self._redis_reachable:
                break
            else:
                self._wait()
        self._leave()
        return 0

    def _listen_to_signals(self) -> None:
        for fd in (self._wake_fd, self._signalled_fd):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._signalled_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(ignored, signal.SIG_IGN)  # meant for the supervisor
        for default in (signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(default, signal.SIG_DFL)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _leave(self) -> None:
        self._doorbell.close()
        self.member.leave()
        with contextlib.suppress(redis.RedisError):
            self.register_death()  # type: ignore[no-untyped-call]
        connections.close_all()

    # --- claim and wait

    def _claim(self) -> queues.Claimed | None:
        """The next job. After a lost reply the same execution id is asked for again, and the same job answered."""
        try:
            claimed = queues.claim(self.queue_names(), self.name, self._execution_id)
        except queues.AWAY as error:
            self._redis_is_away(error)
            return None
        self._redis_is_back()
        if claimed:
            self._execution_id = uuid.uuid4().hex
        return claimed

    def _wait(self) -> None:
        if not self._redis_reachable:
            select.select([self._wake_fd], [], [], queues.RETRY_SECONDS)
            return
        asked_at = time.monotonic()
        try:
            self._doorbell.wait(IDLE_SECONDS, wake_fd=self._wake_fd)
        except (*queues.AWAY, OSError) as error:
            self._redis_is_away(error)
        if time.monotonic() - asked_at < 0.001:
            # A queue with jobs that may not be claimed (rq suspend) rings without end.
            select.select([self._wake_fd], [], [], 0.002)

    def _redis_is_away(self, error: Exception) -> None:
        if self._redis_reachable:
            logger.warning("worker redis_reachable=False name=%s error=%r", self.name, error)
        self._redis_reachable = False

    def _redis_is_back(self) -> None:
        if not self._redis_reachable:
            logger.info("worker redis_reachable=True name=%s", self.name)
        self._redis_reachable = True

    # --- run

    def _run(self, claimed: queues.Claimed) -> None:
        self.member.update(state="busy", job=claimed.job_id, queue=claimed.queue_name)
        execution = Execution(claimed.execution_id, claimed.job_id, self.connection, self.name)
        reason = "it ended without telling the outcome"
        try:
            job = self._restore(claimed)
            if self.forks:
                reason = self._run_in_child(job, execution)
            else:
                self._perform(job, execution)
        except Exception as error:
            logger.exception("job could not be run id=%s", claimed.job_id)
            reason = repr(error)
        self.executions.pop(execution.id, None)
        self._settle(claimed, reason)
        members.count("jobs.done")
        self.member.update(state="idle", job="", queue="")

    def _restore(self, claimed: queues.Claimed) -> Job:
        queue = _queue(claimed.queue_name, self.connection)
        job = Job(claimed.job_id, connection=self.connection, serializer=queue.serializer)
        job.restore(claimed.fields)
        return job

    def _perform(self, job: Job, execution: Execution) -> None:
        close_old_connections()
        execution._job = job
        self.executions[execution.id] = execution
        self.perform_job(job, _queue(job.origin, self.connection), execution)
        close_old_connections()

    def _settle(self, claimed: queues.Claimed, reason: str) -> None:
        """Hand the job back unless its end was recorded. Waits for Redis as long as it takes."""
        execution = (claimed.queue_name, claimed.job_id, claimed.execution_id)
        hand_back_all(self.name, [execution], reason=reason, killed=True, insist=queues.insist)

    # --- a child for the job

    def _run_in_child(self, job: Job, execution: Execution) -> str:
        """Run the job in a forked child; return how that child ended."""
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        ended_fd, held_by_child_fd = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            self._be_child(parent, job, execution)
        os.close(held_by_child_fd)
        try:
            return self._watch(child, ended_fd, job.timeout)
        finally:
            os.close(ended_fd)

    def _be_child(self, parent: int, job: Job, execution: Execution) -> None:
        status = 1
        try:
            die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker waits for us
            self._is_horse = True
            self._perform(job, execution)
            status = 0
        except BaseException:
            logger.exception("job could not be run id=%s", job.id)
        finally:
            with contextlib.suppress(Exception):
                connections.close_all()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _watch(self, child: int, ended_fd: int, timeout: float | None) -> str:
        limit = int(timeout) if timeout is not None else Queue.DEFAULT_TIMEOUT
        deadline = time.monotonic() + limit + HORSE_MARGIN_SECONDS if limit > 0 else float("inf")
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return how_it_ended(status)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                deadline = float("inf")
            # Its end closes the pipe; a second suffices should a grandchild hold that open.
            if select.select([ended_fd], [], [], 1.0)[0]:
                return how_it_ended(os.waitpid(child, 0)[1])

    # --- what RQ does when a job ended, as far as it is different here

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connection  # its timeouts are the kit's

    def prepare_job_execution(self, job: Any, remove_from_intermediate_queue: bool = False) -> None:
        """Nothing: the claim did it."""

    def handle_execution_ended(self, job: Any, queue: Queue, heartbeat_ttl: int) -> None:  # noqa: ARG002
        job.ended_at = now()

    def handle_job_success(
        self, job: Any, queue: Queue, started_job_registry: StartedJobRegistry, execution: Execution
    ) -> None:
        end = super().handle_job_success
        queues.insist(lambda: self._owns(execution) and end(job, queue, started_job_registry, execution))

    def handle_job_failure(
        self,
        job: Any,
        queue: Queue,
        started_job_registry: StartedJobRegistry | None = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        if execution is None or queues.insist(lambda: self._owns(execution)):
            super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def _owns(self, execution: Execution) -> bool:
        """False if the job was handed back meanwhile, because this worker was believed dead: then it is another's."""
        job = execution.job
        owned = self.connection.zscore(queues.started_key(job.origin), execution.composite_key) is not None
        if not owned:
            logger.warning("job outcome dropped id=%s worker=%s reason=superseded", job.id, self.name)
        return owned


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
        hand_back = partial(queues.hand_back, queue_name, job_id, execution_id, worker)
        verdict = insist(partial(hand_back, reason=reason, killed=killed, lease=lease))
        if verdict == "no":
            continue
        handed_back += 1
        logger.warning("job handed back id=%s worker=%s verdict=%s reason=%s", job_id, worker, verdict, reason)
        if verdict == "failed":
            _give_up(queue_name, job_id)
    return handed_back


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.WEXITSTATUS(status)}"


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even by kill -9. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806  (linux/prctl.h)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)


def _queue(queue_name: str, connection: redis.Redis) -> Queue:
    return Queue(
        queue_name,
        connection=connection,
        job_class=Job,
        serializer=queues.config(queue_name).get("SERIALIZER"),
        default_timeout=queues.config(queue_name).get("DEFAULT_TIMEOUT"),
    )


def _give_up(queue_name: str, job_id: str) -> None:
    """What follows when a job has failed for good and none of its processes lived to see to it."""
    queue = _queue(queue_name, queues.connection(queue_name))
    try:
        job = Job.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
        job._status = JobStatus.FAILED
        queue.enqueue_dependents(job)
        attempts.announce_death(job)
    except Exception:
        logger.exception("job failed, and so did what follows id=%s", job_id)
