from __future__ import annotations

from collections.abc import Sequence

from scaling_kit.conf import Settings


class JobsSettings(Settings, prefix="SCALING_KIT_JOBS_"):
    # How long a task may run, unless @task(timeout=...) or the queue's DEFAULT_TIMEOUT says otherwise.
    TIMEOUT_SECONDS: int = 180
    # What does not notice its own timeout, deep in C code, is killed so much later (not in --mode simple).
    TIMEOUT_MARGIN_SECONDS: float = 30.0
    # How long the outcome of a task can be asked for.
    RESULT_TTL_SECONDS: int = 24 * 3600
    FAILURE_TTL_SECONDS: int = 30 * 24 * 3600
    # A job whose process was killed so often fails instead of being run again.
    MAX_KILLS: int = 3
    # A worker whose supervisor has not been heard of for so long is dead, and so is its host as far as we know.
    WORKER_TTL_SECONDS: float = 15.0
    # The lease of the process that moves due jobs and hands back those of dead hosts.
    LEASE_SECONDS: float = 10.0
    # So many workers in a row that die within ten seconds, without a job to blame, end `runworkers`.
    CRASH_LIMIT: int = 5
    # With --autoscale: the oldest job may wait for so long before workers are added; and for so long nothing must
    # wait, and a worker be idle, before one of them goes.
    AUTOSCALE_LATENCY_SECONDS: float = 1.0
    AUTOSCALE_QUIET_SECONDS: float = 30.0
    # Dotted paths of the tasks that `POST api/jobs/` may enqueue; none without this.
    API_TASKS: Sequence[str] = ()


settings = JobsSettings()
