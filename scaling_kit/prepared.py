"""A job as the Redis writes that enqueue it, so that a script can enqueue it together with something else.

The seam between the scheduler, which must enqueue and move its watermark in one atomic step, and whatever holds
the queue: a task backend that offers `prepare(task, args, kwargs, job_id) -> PreparedJob` is enqueued atomically.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PreparedJob:
    """Write `fields` to the hash at `hash_key`, add `queue_name` to the set at `queues_key`, RPUSH `id` to `queue_key`.

    `redis_url` is where; all in that order, in one script or transaction. If there is a `bell_key`, push something
    to that list as well, keep one item of it, and let it expire: workers wait there for what is in this queue.
    """

    id: str
    hash_key: str
    fields: Mapping[str, str | bytes]
    queue_key: str
    queues_key: str
    queue_name: str
    redis_url: str
    bell_key: str = ""
