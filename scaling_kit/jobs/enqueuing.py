"""Writing jobs to their queues: one script that is safe to repeat, for one job or for many in a round trip."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rq.defaults import RQ_KEY_PREFIX

from scaling_kit.jobs import queues
from scaling_kit.jobs.conf import settings
from scaling_kit.prepared import PreparedJob
from scaling_kit.redis import Script, ScriptCall, key

ENQUEUE = Script.beside(__file__, "enqueue", idempotent=True)

UNIQUE_FIELD = "kit_unique"


def prepared(queue_name: str, job_id: str, fields: Mapping[str, str | bytes], priority: int = 0) -> PreparedJob:
    """A job for a queue. The set it is announced in is RQ's set of queues, or the queue's set of priorities."""
    queue = queues.queue_key(queue_name)
    return PreparedJob(
        id=job_id,
        hash_key=queues.job_key(job_id),
        fields=fields,
        queue_key=f"{queue}:p{priority}" if priority else queue,
        queues_key=f"{queue}:priorities" if priority else f"{RQ_KEY_PREFIX}:queues",
        queue_name=str(priority) if priority else queue,
        redis_url=queues.url(queue_name),
        # The plain list rings by itself.
        bell_key=queues.bell_key(queue_name) if priority else "",
    )


def unique_key(path: str, key_of_task: bool | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The lock of a unique job: of the key that its task names, or of the task and its arguments."""
    named = ["key", key_of_task] if isinstance(key_of_task, str) else ["arguments", path, args, kwargs]
    text = json.dumps(named, sort_keys=True, separators=(",", ":"))
    return key("jobs", "unique", hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def enqueue(queue_name: str, job: PreparedJob, *, run_at: float | None = None) -> str:
    """Enqueue, or keep until `run_at` (epoch seconds). Returns the id of the job that is there now.

    That is another one's if `job` is unique and another holds its lock. Safe to repeat after a lost reply. Raises
    `redis.RedisError` when Redis does not answer.
    """
    keys, args = _script_call(queue_name, job, run_at)
    answer: bytes = ENQUEUE(queues.connection(queue_name), keys, args)
    return answer.decode()


def enqueue_many(queue_name: str, jobs: Sequence[PreparedJob], *, run_at: float | None = None) -> list[str]:
    """`enqueue` for several jobs, in their order. If this raises, some of the first ones may be enqueued."""
    calls = [_script_call(queue_name, job, run_at) for job in jobs]
    return [answer.decode() for answer in ENQUEUE.call_many(queues.connection(queue_name), calls)]


def _script_call(queue_name: str, job: PreparedJob, run_at: float | None) -> ScriptCall:
    fields = job.fields
    lock = str(fields.get(UNIQUE_FIELD, ""))
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    texts["status"] = "queued" if run_at is None else "scheduled"
    raw = [part for name, value in fields.items() if isinstance(value, bytes) for part in (name, value)]
    keys = [
        job.hash_key,
        job.queues_key,
        job.queue_key if run_at is None else queues.scheduled_key(queue_name),
        job.bell_key,
        lock,
        key("jobs", "enqueued", job.id) if fields.get("result_ttl") == "0" else "",
    ]
    args = [
        job.id,
        job.queue_name,
        "" if run_at is None else repr(run_at),
        queues.event_channel(job.id),
        queue_name,
        queues.job_key(""),
        _lock_seconds(run_at) if lock else 0,
        json.dumps(texts),
        *raw,
    ]
    return keys, args


def _lock_seconds(run_at: float | None) -> int:
    """So long that it outlives every job that is not stuck for a month, and so short that none stays for ever."""
    waits = max(0.0, run_at - time.time()) if run_at is not None else 0.0
    return int(waits) + settings.FAILURE_TTL_SECONDS
