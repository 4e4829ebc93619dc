"""What the cluster page shows of the queues. It looks and never sweeps, unlike the counts of RQ's own registries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import redis
from rq.utils import str_to_date

from scaling_kit.jobs import queues


def snapshot() -> dict[str, Any]:
    """Per queue of RQ_QUEUES: jobs waiting, age of the oldest of them in seconds, running, failed, scheduled.

    Raises `redis.RedisError`.
    """
    return {"queues": {name: _queue(name, queues.connection(name)) for name in queues.names()}}


def _queue(name: str, connection: redis.Redis) -> dict[str, Any]:
    lists = [queues.queue_key(name), *_lists_of_other_priorities(name, connection)]
    pipeline = connection.pipeline(transaction=False)
    for key in (queues.started_key(name), queues.failed_key(name), queues.scheduled_key(name)):
        pipeline.zcard(key)
    for key in lists:
        pipeline.llen(key)
        pipeline.lindex(key, 0)
    running, failed, scheduled, *found = pipeline.execute()
    return {
        "waiting": sum(found[::2]),
        "oldest_seconds": _age_of_oldest([job_id.decode() for job_id in found[1::2] if job_id], connection),
        "running": running,
        "failed": failed,
        "scheduled": scheduled,
    }


def _lists_of_other_priorities(name: str, connection: redis.Redis) -> list[str]:
    return [queues.queue_key(name, int(found)) for found in connection.smembers(queues.priorities_key(name))]


def _age_of_oldest(heads: list[str], connection: redis.Redis) -> float | None:
    pipeline = connection.pipeline(transaction=False)
    for job_id in heads:
        pipeline.hget(queues.job_key(job_id), "enqueued_at")
    enqueued_at = [str_to_date(text) for text in pipeline.execute() if text]
    if not enqueued_at:
        return None
    oldest = min(moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in enqueued_at)
    return round((datetime.now(UTC) - oldest).total_seconds(), 3)
