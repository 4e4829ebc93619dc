"""Performing a claimed job, of whatever kind, so that its end is recorded whatever happens."""

from __future__ import annotations

import logging

from django.db import close_old_connections
from rq.timeouts import BaseDeathPenalty

from scaling_kit import members
from scaling_kit.jobs import attempts, queues
from scaling_kit.jobs.attempts import Attempt
from scaling_kit.jobs.deaths import hand_back_all
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.plain_jobs import PlainJobWorker
from scaling_kit.jobs.transitions import Claimed

logger = logging.getLogger(__name__)


class MalformedJobError(Exception):
    """The fields of the job cannot be read."""


class Performer:
    def __init__(self, plain: PlainJobWorker, deadline: type[BaseDeathPenalty]) -> None:
        self.plain = plain
        self.worker = plain.name
        self._deadline = deadline
        plain.death_penalty_class = deadline

    def perform(self, claimed: Claimed, slot: int = 0) -> None:
        """Perform the job and record how it ended, or that it cannot be read."""
        try:
            close_old_connections()
            self._perform(claimed, slot)
        except queues.AWAY as error:
            self.settle(claimed, repr(error))
        except Exception as error:
            logger.exception("job could not be run id=%s", claimed.job_id)
            attempts.refuse(claimed, error, worker=self.worker, slot=slot)
        finally:
            close_old_connections()

    def count(self) -> None:
        members.count("jobs.done")

    def settle(self, claimed: Claimed, reason: str) -> None:
        """Hand the job back unless its end was recorded. Waits for Redis as long as it takes."""
        execution = (claimed.queue_name, claimed.job_id, claimed.execution_id)
        hand_back_all(self.worker, [execution], reason=reason, killed=True, insist=queues.insist)

    def _perform(self, claimed: Claimed, slot: int) -> None:
        job = _restored(claimed)
        if job.task is not None:
            Attempt(job, claimed, worker=self.worker, slot=slot).run(self._deadline)
            return
        self.plain.perform(job, claimed)
        self.settle(claimed, "it ended without telling the outcome")


def _restored(claimed: Claimed) -> Job:
    queue = queues.stock_queue(claimed.queue_name)
    job = Job(claimed.job_id, connection=queue.connection, serializer=queue.serializer)
    try:
        job.restore(claimed.fields)
    except Exception as error:
        raise MalformedJobError(f"The fields of the job cannot be read: {error!r}") from error
    return job
