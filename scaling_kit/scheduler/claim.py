"""One tick, claimed: the step that makes each tick run once, whoever believes to lead.

The claim is a script in the Redis of the queue. It compares the lease's token, moves the schedule's watermark and
writes the job, or does nothing. A former leader is fenced off by its token; and even with no lease at all, two
claimants cannot both pass the watermark.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis
from django import db
from redis.connection import parse_url

from scaling_kit.conf import settings as hall
from scaling_kit.lease import Lease
from scaling_kit.prepared import PreparedJob
from scaling_kit.redis import Script, ScriptCall, key, redacted
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Enqueueable, Schedule

logger = logging.getLogger(__name__)

CLAIM = Script.beside(__file__, "claim", idempotent=True)
BEGIN = Script.beside(__file__, "begin", idempotent=True)
# Renewed at each claim and by each new leader. A yearly schedule must find its watermark again.
STATE_TTL_SECONDS = 400 * 24 * 3600


class Outcome(enum.StrEnum):
    CLAIMED = "claimed"
    MINE = "mine"  # claimed by this very call before; its reply was lost
    OVERLAPPED = "overlapped"  # claimed, but the job of the tick before is not over
    HELD = "held"  # not claimed yet, since the job of the tick before is not over
    PASSED = "passed"  # the watermark is there already
    FENCED = "fenced"  # someone else leads

    @property
    def is_ours(self) -> bool:
        return self in (Outcome.CLAIMED, Outcome.MINE)


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a schedule has come: its last claimed tick, and the key of the job of that tick ('' if unknown)."""

    watermark: int
    job_key: str = ""


class OtherRedisError(Exception):
    """A task's queue is not in the Redis of the scheduler, so that a claim could not be atomic."""


def begin(lease: Lease, enabled: Sequence[Schedule], disabled: Sequence[Schedule] = ()) -> list[State] | None:
    """How far each enabled schedule has come, a new one being as far as now. None if we do not lead.

    Raises `redis.RedisError`.
    """
    keys = [lease.holder_key, *(state_key(one.name) for one in (*enabled, *disabled))]
    found = BEGIN(lease.client, keys, [lease.token, STATE_TTL_SECONDS, len(enabled)])
    if found is None:
        return None
    return [State(watermark=int(watermark), job_key=job_key) for watermark, job_key in found]


def claim(lease: Lease, schedule: Schedule, tick: int, state: State) -> tuple[Outcome, State]:
    """Enqueue the job of one tick, unless it was enqueued before, by anyone. Returns the schedule's new state.

    Raises `redis.RedisError`; repeating the call is safe. A task whose backend cannot `prepare()` is enqueued after
    the claim by its own method: a crash in between loses the tick, and never doubles it.
    """
    [answer] = claim_many(lease, [Claim.of(lease, schedule, tick, state)])
    if isinstance(answer, Exception):
        raise answer
    return answer


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A tick that is to be claimed, as the script takes it."""

    schedule: Schedule
    tick: int
    state: State
    job_key: str
    call: ScriptCall

    @classmethod
    def of(cls, lease: Lease, schedule: Schedule, tick: int, state: State) -> Claim:
        """Writes nothing. Raises what `prepared` does."""
        job_id = schedule.job_id(tick)
        job = prepared(schedule, job_id)
        job_key = job.hash_key if job else ""
        keys = [lease.holder_key, state_key(schedule.name), history_key(schedule.name), state.job_key]
        args: list[Any] = [lease.token, tick, job_id, settings.HISTORY_LENGTH, STATE_TTL_SECONDS, job_key]
        args.append(schedule.overlap)
        if job:
            keys += [job.hash_key, job.queue_key, job.queues_key, job.bell_key]
            args += [job.queue_name, *(item for pair in job.fields.items() for item in pair)]
        return cls(schedule=schedule, tick=tick, state=state, job_key=job_key, call=(keys, args))


def claim_many(lease: Lease, claims: Sequence[Claim]) -> list[tuple[Outcome, State] | redis.ResponseError]:
    """`claim` for several schedules in one round trip; one that Redis cannot execute is answered by its error."""
    answers = CLAIM.call_many(lease.client, [one.call for one in claims], raise_on_error=False)
    return [_answered(one, answer) for one, answer in zip(claims, answers, strict=True)]


def _answered(one: Claim, answer: Any) -> tuple[Outcome, State] | redis.ResponseError:
    if isinstance(answer, redis.ResponseError):
        return answer
    outcome, watermark = Outcome(answer[0]), int(answer[1])
    if outcome.is_ours and not one.job_key:
        _enqueue(one.schedule, one.tick)
    job_key = one.job_key if outcome.is_ours else one.state.job_key
    return outcome, State(watermark=watermark, job_key=job_key)


def prepared(schedule: Schedule, job_id: str) -> PreparedJob | None:
    """The job as Redis writes, or None if the task's backend does not offer that. Writes nothing.

    Raises `OtherRedisError`, and whatever the backend raises for arguments it cannot take.
    """
    get_backend = getattr(schedule.task, "get_backend", None)
    prepare = getattr(get_backend(), "prepare", None) if get_backend else None
    if prepare is None:
        return None
    job: PreparedJob = prepare(schedule.task, tuple(schedule.args), dict(schedule.kwargs), job_id=job_id)
    if not _is_same_database(job.redis_url, redis_url()):
        raise OtherRedisError(
            f"its queue is at {redacted(job.redis_url)}, the scheduler at {redacted(redis_url())}; "
            f"set SCALING_KIT_SCHEDULER_REDIS_URL to the Redis of the queues"
        )
    return job


def redis_url() -> str:
    """Where lease, watermarks and queues are."""
    return settings.REDIS_URL or hall.REDIS_URL


def state_key(name: str) -> str:
    return key("scheduler", "state", name)


def history_key(name: str) -> str:
    return key("scheduler", "history", name)


def _enqueue(schedule: Schedule, tick: int) -> None:
    put = schedule.task.enqueue if isinstance(schedule.task, Enqueueable) else schedule.task.delay
    db.close_old_connections()  # for a queue that is in the database
    try:
        put(*schedule.args, **schedule.kwargs)
    except Exception:
        logger.exception(
            "tick lost schedule=%s tick=%s: the task's own enqueue failed after the claim", schedule.name, tick
        )
    finally:
        db.close_old_connections()


def _is_same_database(url: str, other: str) -> bool:
    return _address(url) == _address(other)


@lru_cache(maxsize=16)  # asked at each tick of each schedule
def _address(url: str) -> tuple[object, ...]:
    parts = parse_url(url)  # type: ignore[no-untyped-call]
    host = parts.get("host", "localhost")
    return "127.0.0.1" if host == "localhost" else host, parts.get("port", 6379), parts.get("path"), parts.get("db", 0)
