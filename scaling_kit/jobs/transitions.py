"""How jobs pass from waiting to running to ended: each step is one script, safe to repeat after a lost reply."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text, now, utcformat

from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.queues import (
    alive_key,
    connection,
    event_channel,
    log_key,
    paused_key,
    queue_key,
    record_key,
    scheduled_key,
    started_key,
)
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, Script, key

CLAIM = Script.beside(__file__, "claim", after="transitions", idempotent=True)
FINISH = Script.beside(__file__, "finish", after="transitions", idempotent=True)
HAND_BACK = Script.beside(__file__, "hand_back", after="transitions", idempotent=True)
MOVE_DUE = Script.beside(__file__, "move_due", after="transitions", idempotent=True)
BEAT = Script.beside(__file__, "beat", idempotent=True)
FIND_ORPHANS = Script.beside(__file__, "find_orphans", idempotent=True)

# RQ's own sweeps, which a look at its dashboard starts, must leave our jobs to us: they consider a job abandoned
# when it has not been heard of for this long.
RQ_MARGIN_SECONDS = 300

EXPIRED = "It waited for longer than its ttl"


class ExpiredError(Exception):
    """The job waited for longer than its ttl."""


class ProcessDiedError(Exception):
    """The process that ran the task died."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A job that this worker has taken: its fields, and the record of its attempts."""

    queue_name: str
    job_id: str
    execution_id: str
    fields: Mapping[bytes, bytes]
    record: Mapping[bytes, bytes]
    passed_over: Sequence[str] = ()
    """Keys that are gone, or not what RQ keeps there."""

    @property
    def attempt(self) -> int:
        """Which one this is, from 1."""
        count = self.fields.get(b"kit_attempts", b"")
        return int(count) if count.isdigit() else 1


@dataclass(frozen=True, kw_only=True)
class NothingToDo:
    """There was no job to take. `open_queues` are those that may be waited for: not paused, and lists."""

    open_queues: Sequence[str]
    passed_over: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt of a task ended.

    `outcome` with `value`: `successful`, the seconds to keep the result (-1: for ever, 0: remove the job);
    `retry`, the seconds until the next attempt; `failed` and `stopped`, the reason in a few words.
    """

    outcome: Literal["successful", "retry", "failed", "stopped"]
    value: float | str
    seconds: float
    for_record: str
    """JSON: what was returned, or the error."""
    for_rq: bytes = b""
    """The same, as RQ keeps it."""


def claim(queue_names: Sequence[str], worker: str, execution_id: str, *, slot: int = 0) -> Claimed | NothingToDo:
    """Take the next job of several queues, the first queue first, and mark it started by `worker`.

    The next claim of the same `slot`, a thread of the
    worker, with the same `execution_id` is answered with the same job, so a lost reply loses nothing.
    """
    passed_over, *found = CLAIM(
        connection(queue_names[0]),
        [_slot_key(worker, slot), paused_key(), *map(queue_key, queue_names)],
        [*common(), worker, execution_id, RQ_MARGIN_SECONDS, rq_error(EXPIRED), error(ExpiredError, EXPIRED)],
    )
    told = [item.decode() for item in passed_over]
    if len(found) == 1:
        return NothingToDo(open_queues=[_queue_name(queue) for queue in found[0]], passed_over=told)
    queue, job_id, fields, record = found
    return Claimed(
        queue_name=_queue_name(queue),
        job_id=job_id.decode(),
        execution_id=execution_id,
        fields=_mapping(fields),
        record=_mapping(record),
        passed_over=told,
    )


def finish(claimed: Claimed, ended: Ended, *, worker: str, slot: int = 0) -> tuple[bool, bool]:
    """Record the end of an attempt in the thread `slot` of the worker. A repetition is answered as the first call.

    Returns whether it was recorded (if not, the job was handed back meanwhile, and is another's), and whether other
    jobs depend on it.
    """
    verdict, has_dependents = FINISH(
        connection(claimed.queue_name),
        [_slot_key(worker, slot), log_key(claimed.job_id)],
        [
            *common(),
            worker,
            claimed.queue_name,
            claimed.job_id,
            claimed.execution_id,
            ended.outcome,
            claimed.attempt,
            ended.seconds,
            ended.for_record,
            ended.for_rq,
            ended.value,
        ],
    )
    return verdict == b"recorded", bool(has_dependents)


def hand_back(
    queue_name: str,
    job_id: str,
    execution_id: str,
    worker: str,
    *,
    reason: str,
    killed: bool,
    lease: Lease | None = None,
) -> str:
    """Put a started job that nobody runs any more back at the head of its queue, once, whoever calls this how often.

    `killed` counts against the job: after SCALING_KIT_JOBS_MAX_KILLS it fails. With a `lease` this is a sweep: only
    its holder may do so, and only while the worker is not heard of. Returns `requeued`, `failed`, or `no` when there
    was nothing to hand back.
    """
    text = f"The process that ran this job died {settings.MAX_KILLS} times, the last time because: {reason}"
    answer = HAND_BACK(
        connection(queue_name),
        [alive_key(worker), lease.holder_key if lease else ""],
        [
            *common(),
            queue_name,
            job_id,
            execution_id,
            worker,
            int(killed),
            settings.MAX_KILLS,
            lease.token if lease else "",
            reason,
            rq_error(text),
            error(ProcessDiedError, reason),
        ],
    )
    return str(answer.decode())


def executions(queue_name: str, worker: str) -> list[tuple[str, str, str]]:
    """(queue name, job id, execution id) of what a worker has started and not ended."""
    redis = connection(queue_name)
    found = []
    for composite in redis.smembers(f"{RQ_KEY_PREFIX}:worker:{worker}:executions"):
        job_id, _, execution_id = as_text(composite).partition(":")
        queue = redis.hget(f"{RQ_KEY_PREFIX}:execution:{as_text(composite)}", "kit_queue")
        found.append((as_text(queue) if queue else queue_name, job_id, execution_id))
    return found


def forget_worker(queue_name: str, worker: str) -> None:
    """Take a worker that died off RQ's dashboard; what else RQ keeps of it is dropped by the upkeep."""
    connection(queue_name).delete(alive_key(worker), f"{RQ_KEY_PREFIX}:worker:{worker}")


def beat(queue_name: str, workers: Sequence[str], *, purpose: Purpose = Purpose.REQUEST) -> None:
    """Say that these workers live, and with them the jobs they run. Raises `redis.RedisError`."""
    BEAT(
        connection(queue_name, purpose),
        [alive_key(worker) for worker in workers],
        [RQ_KEY_PREFIX, round(settings.WORKER_TTL_SECONDS * 1000), RQ_MARGIN_SECONDS, utcformat(now()), *workers],
    )


def move_due(queue_name: str, lease: Lease, *, limit: int = 500) -> tuple[int, float | None, list[str]]:
    """Move what is due from the schedule to the queue, if we hold the lease in that same Redis.

    Returns how many were moved, the seconds until the next is due (None: nothing is scheduled), and ids that are due
    but belong to a rate limit, which only RQ itself can enqueue.
    """
    moved, next_in_ms, limited = MOVE_DUE(
        connection(queue_name),
        [lease.holder_key, scheduled_key(queue_name)],
        [*common(), lease.token, queue_name, limit],
    )
    return moved, None if next_in_ms < 0 else next_in_ms / 1000, [job_id.decode() for job_id in limited]


def find_orphans(queue_name: str, lease: Lease, *, sure_after_seconds: float) -> list[tuple[str, str, str]]:
    """(job id, execution id, worker) of started jobs whose worker has not been heard of for a while.

    A worker that is silent is first suspected, and only `sure_after_seconds` later given up: after Redis itself was
    away nobody has beaten yet. Also returns to its queue what a stock RQ worker left between pop and start.
    """
    found = FIND_ORPHANS(
        connection(queue_name),
        [lease.holder_key, started_key(queue_name), queue_key(queue_name), key("jobs", "suspects", queue_name)],
        [lease.token, RQ_KEY_PREFIX, key("jobs", "alive", ""), sure_after_seconds],
    )
    return [(job_id.decode(), execution_id.decode(), worker.decode()) for job_id, execution_id, worker in found]


def rq_error(text: str) -> bytes:
    """The text of a failure as RQ keeps it."""
    return base64.b64encode(zlib.compress(text.encode()))


def error(kind: type[BaseException], text: str) -> str:
    """A failure as the record keeps it."""
    return json.dumps({"exception_class_path": f"{kind.__module__}.{kind.__qualname__}", "traceback": text})


def common() -> list[Any]:
    """What transitions.lua takes, in front of a script's own arguments."""
    return [RQ_KEY_PREFIX, event_channel(""), record_key(""), utcformat(now()), settings.FAILURE_TTL_SECONDS]


def _slot_key(worker: str, slot: int) -> str:
    """What a thread of a worker has claimed and ended last."""
    return key("jobs", "slot", worker, slot)


def _queue_name(queue: bytes) -> str:
    return queue.decode().removeprefix(queue_key(""))


def _mapping(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
