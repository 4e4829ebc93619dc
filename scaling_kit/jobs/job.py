"""RQ's job, taught what a task of ours needs: JSON whatever its queue uses, priorities, and finer retries."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rq.job
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from scaling_kit.jobs import queues
from scaling_kit.jobs.tasks import Retry

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq.queue import Queue

TASK_FIELD = "kit_task"
RUN_TASK = "scaling_kit.jobs.attempts.run_task"


class Job(rq.job.Job):
    """A job of any producer. Name it in `RQ = {"JOB_CLASS": "scaling_kit.jobs.job.Job"}` to see tasks in django-rq."""

    task: Mapping[str, Any] | None = None
    """What the backend wrote beside RQ's fields, or None for a plain RQ job."""

    attempts: int = 0
    """How often it was started, this time included."""

    def restore(self, raw_data: Any) -> None:
        fields = {key.decode(): value for key, value in raw_data.items()}
        if TASK_FIELD in fields:
            self.serializer = JSONSerializer
            self.task = json.loads(fields[TASK_FIELD])
        self.attempts = int(fields.get("kit_attempts", 0))
        super().restore(raw_data)

    @property
    def func(self) -> Any:
        if self.task is not None and self.func_name != RUN_TASK:
            raise ValueError(f"The job of a task calls {RUN_TASK} and nothing else, not {self.func_name!r}")
        return super().func

    def retry(self, queue: Queue, pipeline: Pipeline) -> None:
        """Run again, as the task's policy says. RQ itself knows whole seconds only, and no priorities."""
        policy = self.task and self.task.get("retry")
        if not policy or not self.retries_left:
            super().retry(queue, pipeline)
            return
        retry = Retry.from_dict(policy)
        delay = retry.delay_seconds(retry.count - self.retries_left)
        self.retries_left -= 1
        self._status = JobStatus.SCHEDULED
        pipeline.hset(self.key, mapping={"retries_left": self.retries_left, "status": self._status.value})
        pipeline.zadd(queues.scheduled_key(queue.name), {self.id: time.time() + delay})
