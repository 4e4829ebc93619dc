"""How many jobs are in each queue, by state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from rq.defaults import RQ_KEY_PREFIX

from scaling_kit.jobs import fields, payloads, queues
from scaling_kit.jobs.exceptions import NoSuchQueueError

_REGISTRIES = {"running": "wip"} | {
    state: state for state in ("scheduled", "failed", "finished", "canceled", "deferred")
}
# Of the jobs at the head of a list some may have expired: so many are asked for their age.
HEADS = 5


@dataclass(frozen=True, kw_only=True)
class QueueCounts:
    """Of one queue. `oldest_seconds` is for how long the oldest of the waiting jobs has waited."""

    name: str
    waiting: int
    scheduled: int
    running: int
    failed: int
    finished: int
    canceled: int
    deferred: int
    oldest_seconds: float | None
    paused: bool


def fetch_counts(names: Sequence[str] | None = None) -> list[QueueCounts]:
    """Of these queues, by default all of RQ_QUEUES, in that order. Three round trips for each Redis there is.

    Raises `NoSuchQueueError`, `redis.RedisError`.
    """
    names = queues.names() if names is None else names
    for name in names:
        ensure_queue(name)
    found = {counts.name: counts for url_names in by_url(names) for counts in _fetch_counts(url_names)}
    return [found[name] for name in names]


def ensure_queue(name: str) -> None:
    """Raises `NoSuchQueueError` unless RQ_QUEUES has it."""
    if name not in queues.names():
        raise NoSuchQueueError(f"There is no queue {name!r}; there are: {', '.join(queues.names()) or 'none'}.")


def connections() -> list[redis.Redis]:
    """A client for each Redis that has queues: one, as a rule."""
    return [queues.connection(names[0]) for names in by_url(queues.names())]


def registry_key(state: str, queue_name: str) -> str:
    """The sorted set in which RQ keeps the jobs of any state but `waiting`."""
    return f"{RQ_KEY_PREFIX}:{_REGISTRIES[state]}:{queue_name}"


def by_url(names: Iterable[str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(queues.url(name), []).append(name)
    return list(found.values())


def _fetch_counts(names: Sequence[str]) -> Iterator[QueueCounts]:
    connection = queues.connection(names[0])
    lists = fetch_lists(connection, names)
    pipeline = connection.pipeline(transaction=False)
    for name in names:
        pipeline.sismember(queues.paused_key(), name)
        for state in _REGISTRIES:
            pipeline.zcard(registry_key(state, name))
        for list_key in lists[name]:
            pipeline.llen(list_key)
            pipeline.lrange(list_key, 0, HEADS - 1)
    answers = iter(pipeline.execute())
    read = {name: _read_counts(answers, len(lists[name])) for name in names}
    ages = _fetch_ages(connection, {name: heads for name, (_, heads) in read.items()})
    for name, (counts, _) in read.items():
        yield QueueCounts(name=name, oldest_seconds=ages[name], **counts)


def _read_counts(answers: Iterator[Any], lists: int) -> tuple[dict[str, Any], list[bytes]]:
    counts = {"paused": bool(next(answers)), **{state: next(answers) for state in _REGISTRIES}, "waiting": 0}
    heads: list[bytes] = []
    for _ in range(lists):
        counts["waiting"] += next(answers)
        heads += next(answers)
    return counts, heads


def fetch_lists(connection: redis.Redis, names: Sequence[str]) -> dict[str, list[str]]:
    """The lists of those that wait, in the order in which they are taken from."""
    pipeline = connection.pipeline(transaction=False)
    for name in names:
        pipeline.smembers(queues.priorities_key(name))
    in_use = [[fields.integer(priority) for priority in found] for found in pipeline.execute()]
    return {
        name: [queues.queue_key(name, priority) for priority in sorted({0, *priorities}, reverse=True)]
        for name, priorities in zip(names, in_use, strict=True)
    }


def _fetch_ages(connection: redis.Redis, heads: Mapping[str, list[bytes]]) -> dict[str, float | None]:
    pipeline = connection.pipeline(transaction=False)
    for job_ids in heads.values():
        for job_id in job_ids:
            pipeline.hget(queues.job_key(payloads.text(job_id)), "enqueued_at")
    answers = iter(pipeline.execute(raise_on_error=False) if any(heads.values()) else [])
    return {name: _age([fields.moment(next(answers)) for _ in job_ids]) for name, job_ids in heads.items()}


def _age(enqueued_at: Iterable[datetime | None]) -> float | None:
    known = [moment for moment in enqueued_at if moment]
    return round(max(0.0, (datetime.now(UTC) - min(known)).total_seconds()), 3) if known else None
