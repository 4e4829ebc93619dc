"""Acting on jobs and queues: what an operator does when something is wrong.

    from scaling_kit.jobs import control

    control.pause("low")
    control.retry(job_id)

Each action is one script, so that a job which a worker claims at that moment is either canceled or run, never both.
Raises a `JobsError` for what cannot be done, and `redis.RedisError` when Redis does not answer: whether it was done
is then unknown, and doing it again does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rq.rate_limit import RateLimitRegistry
from rq.registry import CanceledJobRegistry, FailedJobRegistry
from rq.serializers import JSONSerializer

from scaling_kit.jobs import queues, transitions
from scaling_kit.jobs.counts import connections, ensure_queue, fetch_counts, registry_key
from scaling_kit.jobs.exceptions import (
    DuplicateJobError,
    NobodyListensError,
    NoSuchJobError,
    WrongStateError,
)
from scaling_kit.jobs.job import TASK_FIELD, Job
from scaling_kit.jobs.listing import FINAL_STATES
from scaling_kit.redis import Script

BATCH = 200
LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100


def _script(name: str, *, idempotent: bool = False) -> Script:
    parts = [Path(__file__).with_name(f"{part}.lua").read_text() for part in ("transitions", "whereabouts", name)]
    return Script("\n".join(parts), idempotent=idempotent)


CANCEL = _script("cancel", idempotent=True)
RETRY = _script("retry")
RUN_NOW = _script("run_now")
SET_PRIORITY = _script("set_priority", idempotent=True)
REMOVE = _script("remove")
EMPTY = _script("empty")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of something done to many jobs: `skipped` are those in whose way something was, `remaining` what is left."""

    done: int
    skipped: int = 0
    remaining: int = 0


# --- one job


def cancel(job_id: str) -> str:
    """See to it that a job does not run: `canceled`, or `stopping` if its worker was asked to stop it.

    A canceled job is kept as long as a failed one, and can be retried. As with RQ's own `Job.cancel`, jobs that
    depend on it stay deferred. Raises `NoSuchJobError`, `WrongStateError` if it ended, `NobodyListensError`.
    """
    outcome, detail = _act_on_one(CANCEL, job_id, "canceled")
    if outcome == "unheard":
        raise NobodyListensError
    if outcome == "canceled":
        _leave_rate_limit(job_id, detail)
    return outcome


def retry(job_id: str) -> None:
    """Queue a job that failed, was canceled or was stopped, with all its retries; its former attempts are kept.

    Raises `NoSuchJobError`, `WrongStateError`, and `DuplicateJobError` if it is unique and another one is there.
    """
    outcome, detail = _act_on_one(RETRY, job_id, "retried")
    if outcome == "duplicate":
        raise DuplicateJobError(detail)
    if outcome == "rate_limited":
        _requeue_rate_limited(job_id, detail)


def run_now(job_id: str) -> None:
    """Queue a scheduled job, or one that waits for its next attempt. Raises `NoSuchJobError`, `WrongStateError`."""
    _act_on_one(RUN_NOW, job_id, "run now")


def set_priority(job_id: str, priority: int) -> None:
    """Change the priority (-100 to 100) of a job that waits or is scheduled.

    It goes behind those of the same priority. Raises `NoSuchJobError`, `WrongStateError`, `ValueError`.
    """
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise ValueError(f"A priority is {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}, not {priority}")
    for connection in connections():
        task = _task_with(priority, connection.hget(queues.job_key(job_id), TASK_FIELD))
        outcome, detail = map(_text, SET_PRIORITY(connection, [], [*_context(), job_id, str(priority), task]))
        if outcome != "gone":
            _refuse(outcome, detail, "given another priority")
            return
    raise NoSuchJobError


def remove(job_id: str) -> None:
    """Delete a job that does not run, and all that is kept of it. Raises `NoSuchJobError`, `WrongStateError`."""
    _, rate_limit = _act_on_one(REMOVE, job_id, "removed")
    _leave_rate_limit(job_id, rate_limit)


# --- a queue


def pause(queue_name: str) -> None:
    """Let workers take no more jobs of this queue; it goes on receiving them. Raises `NoSuchQueueError`."""
    _connection(queue_name).sadd(queues.paused_key(), queue_name)


def resume(queue_name: str) -> None:
    """Raises `NoSuchQueueError`."""
    bell = queues.bell_key(queue_name)
    pipeline = _connection(queue_name).pipeline()
    pipeline.srem(queues.paused_key(), queue_name)
    pipeline.lpush(bell, "1")
    pipeline.ltrim(bell, 0, 0)
    pipeline.expire(bell, 60)
    pipeline.execute()


def empty(queue_name: str, *, limit: int | None = None) -> Tally:
    """Delete the jobs that wait in a queue, whatever their priority; those that come meanwhile stay.

    With a `limit` so many at most: `remaining` says how many are left. Raises `NoSuchQueueError`.
    """
    connection = _connection(queue_name)
    waiting = fetch_counts([queue_name])[0].waiting
    left, removed = waiting if limit is None else min(limit, waiting), 0
    while left > 0:
        size = min(BATCH, left)
        done, limited = EMPTY(connection, [], [*_context(queue_name), size])
        for rate_limit, job_id in zip(limited[::2], limited[1::2], strict=True):
            _leave_rate_limit(_text(job_id), _text(rate_limit))
        removed += done
        left -= size
    return Tally(done=removed, remaining=fetch_counts([queue_name])[0].waiting)


def retry_failed(queue_name: str, *, limit: int | None = None) -> Tally:
    """Retry the failed jobs of a queue, in the order in which they failed. Raises `NoSuchQueueError`."""

    def act(connection: redis.Redis, job_ids: Sequence[str]) -> int:
        answers = _answers(RETRY, connection, job_ids, queue_name)
        for job_id, (outcome, detail) in zip(job_ids, answers, strict=True):
            if outcome == "rate_limited":
                _requeue_rate_limited(job_id, detail)
        return sum(outcome in {"queued", "rate_limited"} for outcome, _ in answers)

    return _act_on_all("failed", queue_name, act, limit)


def remove_all(state: str, queue_name: str, *, limit: int | None = None) -> Tally:
    """Delete the `failed`, `finished` or `canceled` jobs of a queue. Raises `NoSuchQueueError`, `ValueError`."""
    if state not in FINAL_STATES:
        raise ValueError(f"Only {', '.join(FINAL_STATES)} jobs can be removed together, not {state}")

    def act(connection: redis.Redis, job_ids: Sequence[str]) -> int:
        return sum(outcome == "removed" for outcome, _ in _answers(REMOVE, connection, job_ids, queue_name))

    return _act_on_all(state, queue_name, act, limit)


# --- scripts


def _context(queue_name: str = "") -> list[Any]:
    """What transitions.lua and whereabouts.lua take."""
    return [*transitions.common(), queues.log_key(""), queue_name]


def _act_on_one(script: Script, job_id: str, done: str) -> tuple[str, str]:
    for connection in connections():
        [(outcome, detail)] = _answers(script, connection, [job_id])
        if outcome != "gone":
            _refuse(outcome, detail, done)
            return outcome, detail
    raise NoSuchJobError


def _answers(
    script: Script, connection: redis.Redis, job_ids: Sequence[str], queue_name: str = ""
) -> list[tuple[str, str]]:
    found = script(connection, [], [*_context(queue_name), *job_ids])
    return [(_text(outcome), _text(detail)) for outcome, detail in found]


def _act_on_all(
    state: str, queue_name: str, act: Callable[[redis.Redis, Sequence[str]], int], limit: int | None
) -> Tally:
    """In batches, over those that are there now; the ones that stay are stepped over."""
    connection = _connection(queue_name)
    registry = registry_key(state, queue_name)
    done = skipped = 0
    for size in _batches(connection.zcard(registry), limit):
        job_ids = [_text(job_id) for job_id in connection.zrange(registry, skipped, skipped + size - 1)]
        if not job_ids:
            break
        done += act(connection, job_ids)
        still_there = connection.zmscore(registry, job_ids)
        skipped += sum(score is not None for score in still_there)
    return Tally(done=done, skipped=skipped, remaining=max(0, connection.zcard(registry) - skipped))


def _batches(total: int, limit: int | None) -> Iterator[int]:
    left = total if limit is None else min(limit, total)
    while left > 0:
        yield min(BATCH, left)
        left -= BATCH


def _refuse(outcome: str, detail: str, done: str) -> None:
    if outcome == "state":
        raise WrongStateError(done, detail)


def _connection(queue_name: str) -> redis.Redis:
    ensure_queue(queue_name)
    return queues.connection(queue_name)


def _task_with(priority: int, written: Any) -> str:
    """What the job says of its task, with another priority."""
    try:
        return json.dumps({**json.loads(written or b""), "priority": priority})
    except (ValueError, TypeError):
        return ""


def _text(value: Any) -> str:
    return str(value, "utf-8", "replace")


# --- what only RQ can do: its rate limits


def _leave_rate_limit(job_id: str, rate_limit: str) -> None:
    if rate_limit:
        for connection in connections():
            RateLimitRegistry(rate_limit, connection).cancel(job_id)


def _requeue_rate_limited(job_id: str, queue_name: str) -> None:
    """As RQ does. Of two at once the second finds it in neither registry."""
    for connection in connections():
        for registry_class in (FailedJobRegistry, CanceledJobRegistry):
            registry = registry_class(queue_name, connection=connection, job_class=Job, serializer=JSONSerializer)
            if job_id in registry:
                registry.requeue(job_id)
                return
