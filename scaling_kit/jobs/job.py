"""RQ's job, taught what a task of ours needs: JSON whatever its queue uses, and a policy for retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import rq.job
from rq.serializers import JSONSerializer

from scaling_kit.jobs.tasks import Retry

TASK_FIELD = "kit_task"
RUN_TASK = "scaling_kit.jobs.attempts.run_task"


WRITTEN = {"path", "backend", "queue", "priority", "run_after", "retry"}


class Job(rq.job.Job):
    """A job of any producer. Name it in `RQ = {"JOB_CLASS": "scaling_kit.jobs.job.Job"}` to see tasks in django-rq."""

    task: Mapping[str, Any] | None = None
    """What the backend wrote beside RQ's fields, or None for a plain RQ job."""

    attempts: int = 0
    """How often it was started, this time included."""

    def restore(self, raw_data: Any) -> None:
        task = raw_data.get(TASK_FIELD.encode())
        if task is not None:
            self.serializer = JSONSerializer
            self.task = _checked(json.loads(task))
        self.attempts = int(raw_data.get(b"kit_attempts", 0))
        super().restore(raw_data)

    @property
    def func(self) -> Any:
        if self.task is not None and self.func_name != RUN_TASK:
            raise ValueError(f"The job of a task calls {RUN_TASK} and nothing else, not {self.func_name!r}")
        return super().func

    def retry_delay_seconds(self, error: BaseException) -> float | None:
        """How long a task that raised this waits for its next attempt; None if there is none."""
        policy = self.task and self.task.get("retry")
        if not policy or not self.retries_left:
            return None
        retry = Retry.from_dict(policy)
        if not retry.applies_to(error):
            return None
        return retry.delay_seconds(retry.count - self.retries_left)


def _checked(task: Any) -> Mapping[str, Any]:
    if not isinstance(task, dict) or not task.keys() >= WRITTEN:
        raise ValueError(f"{TASK_FIELD} is not an object with {', '.join(sorted(WRITTEN))}")
    return task
