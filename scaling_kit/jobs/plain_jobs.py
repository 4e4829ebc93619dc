"""Plain RQ jobs: RQ's own worker is asked for what it does with them, and to show this one on its dashboard.

The loop, the claim, the heartbeats and the fate of a job whose process died are the kit's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import redis
import rq.worker
from rq.executions import Execution
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.utils import now, utcformat
from rq.worker_registration import unregister

from scaling_kit.jobs import queues
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.transitions import Claimed

logger = logging.getLogger(__name__)


class PlainJobWorker(rq.worker.SimpleWorker):
    """What is left of RQ's worker. Several threads may use it at once."""

    job_class = Job
    log_job_description = False
    log_result_lifespan = False

    def __init__(self, queue_names: Sequence[str], name: str) -> None:
        connection = queues.connection(queue_names[0])
        super().__init__([queues.stock_queue(queue_name) for queue_name in queue_names], name, connection=connection)

    def perform(self, job: Job, claimed: Claimed) -> None:
        execution = Execution(claimed.execution_id, claimed.job_id, self.connection, self.name)
        execution._job = job
        self.executions[execution.id] = execution
        try:
            self.perform_job(job, queues.stock_queue(claimed.queue_name), execution)
        finally:
            self.executions.pop(execution.id, None)

    def is_forked(self) -> None:
        """We are in a child: the parent's connections, and their locks, are not ours."""
        self._is_horse = True
        self.connection = queues.connection(self.queues[0].name)

    def will_be_stopped(self, job_id: str) -> None:
        """How the job in hand ends was somebody's wish, and no failure to be retried."""
        self._stopped_job_id = job_id

    def register_death(self) -> None:
        """As RQ does, but leave the executions to the supervisor: there is one if a claim never had its answer."""
        with self.connection.pipeline() as pipeline:
            unregister(self, pipeline)
            pipeline.hset(self.key, "death", utcformat(now()))
            pipeline.expire(self.key, 60)
            pipeline.execute()

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

    def handle_job_retry(self, job: Any, queue: Queue, retry: Any, started_job_registry: Any, execution: Any) -> None:
        if queues.insist(lambda: self._owns(execution)):
            super().handle_job_retry(job, queue, retry, started_job_registry, execution)

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
