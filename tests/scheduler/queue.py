"""A queue of the tests: what any task backend that can prepare a job looks like to the scheduler."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.conf import settings

from scaling_kit.prepared import PreparedJob
from scaling_kit.redis import Purpose, RedisError, client, key
from scaling_kit.testing import wait_until
from tests.jobs.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Backend:
    redis_url: str = ""

    def prepare(self, task: "Task", args: Sequence[Any], kwargs: Mapping[str, Any], *, job_id: str) -> PreparedJob:
        return PreparedJob(
            id=job_id,
            hash_key=key("queue", "job", job_id),
            fields={"status": "queued", "call": f"{task.name}{args}{kwargs}", "raw": b"\xff"},
            queue_key=key("queue", "waiting"),
            queues_key=key("queue", "names"),
            queue_name="waiting",
            redis_url=self.redis_url or settings.SCALING_KIT_REDIS_URL,
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task whose backend can prepare."""

    name: str = "task"
    backend: Backend = field(default_factory=Backend)

    def get_backend(self) -> Backend:
        return self.backend

    def enqueue(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("must be enqueued by the claim")


@dataclass(frozen=True, kw_only=True)
class PlainTask:
    """A task that can only enqueue itself."""

    enqueued: list[tuple[Any, ...]] = field(default_factory=list)

    def enqueue(self, *args: Any) -> None:
        self.enqueued.append(args)


@dataclass(frozen=True, kw_only=True)
class SlowTask:
    """A task that takes long to enqueue itself, and says so in a file."""

    journal: Journal
    seconds: float

    def enqueue(self) -> None:
        self.journal.note("started", "enqueue")
        time.sleep(self.seconds)
        self.journal.note("ended", "enqueue")


def waiting(schedule: str = "") -> list[str]:
    """Ids of the jobs on the queue, in order; of one schedule, if given."""
    ids: list[str] = client(Purpose.SCRIPT).lrange(key("queue", "waiting"), 0, -1)  # type: ignore[assignment]
    return [job_id for job_id in ids if job_id.startswith(f"cron-{schedule}")]


def ticks(schedule: str) -> list[int]:
    return [int(job_id.rpartition("-")[2]) for job_id in waiting(schedule)]


def finish(job_id: str, status: str = "finished") -> None:
    client(Purpose.SCRIPT).hset(key("queue", "job", job_id), "status", status)


def gaps(schedule: str) -> list[int]:
    """How long each time was for which nothing was enqueued."""
    return [later - earlier for earlier, later in pairwise(ticks(schedule)) if later - earlier > 1]


def wait_for_ticks(count: int) -> None:
    """Until so many ticks of seconds yet to come have been enqueued."""
    until = int(time.time()) + count
    wait_until(lambda: _last_tick() >= until, timeout_seconds=30, what=f"{count} more ticks")


def _last_tick() -> int:
    try:
        return max(ticks("all"), default=0)
    except RedisError:
        return 0


def assert_each_tick_once(number: str = "") -> None:
    every = ticks(f"{number}all")
    assert every == list(range(every[0], every[0] + len(every))), "catch_up=all: none twice, none lost, in order"
    coalesced = ticks(f"{number}latest")
    assert coalesced == sorted(set(coalesced)), "catch_up=latest: none twice"
    assert abs(coalesced[-1] - every[-1]) <= 1
