"""What one process of all does for the queues: move due jobs, hand back those of dead hosts, drop expired entries.

`runworkers` and `runscheduler` both contend for the one lease, so it is done with either. Every write is refused by
Redis unless the lease is ours at that moment.
"""

from __future__ import annotations

import signal
import threading

from rq.job import Job as RQJob
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.worker_registration import clean_worker_registry

from scaling_kit.jobs import queues, transitions
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.deaths import hand_back_all
from scaling_kit.leadership import Candidate, Duty
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client

LEASE = "scaling_kit_jobs"
POLL_SECONDS = 0.2
# A worker is suspected when its sign of life has run out, and given up when it is still silent this share of its
# ttl later. With the default ttl and this pace a dead host is found within 25 s.
SUSPICION_SHARE = 0.4
SWEEP_SECONDS = 2.0
TIDY_SECONDS = 60.0


def move_due_jobs(lease: Lease) -> float:
    """Move delayed jobs and retries whose time has come. Returns the seconds until the next one, if that is sooner."""
    return min([POLL_SECONDS, *(_move(queue_name, lease) for queue_name in queues.names())])


def hand_back_orphans(lease: Lease) -> None:
    """Put jobs of workers that are silent back at the head of their queue."""
    sure_after = settings.WORKER_TTL_SECONDS * SUSPICION_SHARE
    for queue_name in queues.names():
        for job_id, execution_id, worker in transitions.find_orphans(queue_name, lease, sure_after_seconds=sure_after):
            execution = (queue_name, job_id, execution_id)
            hand_back_all(worker, [execution], reason="its host fell silent", killed=True, lease=lease)


def tidy(_lease: Lease) -> None:
    """Drop what has expired from RQ's registries. Harmless to do twice."""
    for queue_name in queues.names():
        queue = Queue(queue_name, connection=queues.connection(queue_name))
        FinishedJobRegistry(queue=queue).cleanup()
        FailedJobRegistry(queue=queue).cleanup()
        ReadyJobRegistry(queue=queue).cleanup()
        clean_worker_registry(queue)


DUTIES = (
    Duty(run=move_due_jobs, every_seconds=POLL_SECONDS),
    Duty(run=hand_back_orphans, every_seconds=SWEEP_SECONDS),
    Duty(run=tidy, every_seconds=TIDY_SECONDS),
)


def run_candidate() -> int:
    """Contend for the lease until SIGTERM: the body of the process that `runworkers` keeps for this."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lease = Lease(LEASE, client=client(Purpose.SCRIPT), ttl_seconds=settings.LEASE_SECONDS)
    Candidate(lease, DUTIES).run(stop)
    return 0


def _move(queue_name: str, lease: Lease) -> float:
    _, next_in_seconds, rate_limited = transitions.move_due(queue_name, lease)
    if rate_limited:
        _enqueue_rate_limited(queue_name, rate_limited)
    return POLL_SECONDS if next_in_seconds is None else next_in_seconds


def _enqueue_rate_limited(queue_name: str, job_ids: list[str]) -> None:
    """As RQ's own scheduler does: only it knows how many of a rate limit may run."""
    queue = Queue(queue_name, connection=queues.connection(queue_name))
    for job in RQJob.fetch_many(job_ids, connection=queue.connection):
        if job is None:
            continue
        with queue.connection.pipeline() as pipeline:
            queue.scheduled_job_registry.remove(job.id, pipeline=pipeline)
            queue._enqueue_rate_limited_job(job, pipeline=pipeline, at_front=job.should_enqueue_at_front())
            pipeline.execute()
