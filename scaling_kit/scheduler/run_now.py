"""Run a schedule once by hand, outside its timetable."""

from __future__ import annotations

import logging
from typing import Any

from scaling_kit.redis import Purpose, Script, client
from scaling_kit.scheduler import claim, stored
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Enqueueable, Schedule

logger = logging.getLogger(__name__)

RUN_NOW = Script.beside(__file__, "run_now", idempotent=True)


def run_now(name: str) -> str:
    """Enqueue the job of a schedule at once, disabled or not, whatever else runs of it; return the job's id.

    Twice within a second is once. It is shown among the runs, and is no tick: the timetable goes on as it would have.
    Raises `UnknownScheduleError`, `UnfitError`, `redis.RedisError`, `OtherRedisError`, and what the task's own enqueue
    does.
    """
    schedule = stored.find(name)
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    now = int(redis.time()[0])
    job_id = job_id_by_hand(schedule, now)
    job = claim.prepared(schedule, job_id)
    keys = [claim.history_key(name)]
    args: list[Any] = [job_id, now, settings.HISTORY_LENGTH, claim.STATE_TTL_SECONDS]
    if job:
        keys += [job.hash_key, job.queue_key, job.queues_key, job.bell_key]
        args += [job.queue_name, *(item for pair in job.fields.items() for item in pair)]
    else:
        _enqueue(schedule)
    RUN_NOW(redis, keys, args)
    logger.info("run by hand schedule=%s job=%s", name, job_id)
    return job_id


def job_id_by_hand(schedule: Schedule, at: int) -> str:
    return f"cron-{schedule.slug}{stored.BY_HAND}-{at}"


def _enqueue(schedule: Schedule) -> None:
    put = schedule.task.enqueue if isinstance(schedule.task, Enqueueable) else schedule.task.delay
    put(*schedule.args, **schedule.kwargs)
