"""Every tick that came on the queue, and who led when: written down by a thread, judged afterwards.

The queue is RQ's list, which no worker empties: it holds the ids of all jobs in the order in which they were enqueued.
A server that loses its data begins a new life; what was on the queue before stays in the book.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scaling_kit.lease import Lease
from scaling_kit.scheduler.status import LEASE

LOOK_EVERY_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job on the queue. `enqueued_at` is what the job itself says, in seconds since the epoch."""

    schedule: str
    tick: int
    enqueued_at: float
    life: int

    @property
    def late_seconds(self) -> float:
        return self.enqueued_at - self.tick


@dataclass(frozen=True, kw_only=True)
class Reign:
    """From when somebody was seen to lead."""

    seen_at: float
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`lost` are ticks of catch_up="all" that are on no queue; `unanswered` gaps of catch_up="latest" that no tick
    made up for, of so many `gaps`. `late_seconds` is how late the latest tick of catch_up="all" was."""

    expected: int
    lost: int
    duplicated: int
    gaps: int
    unanswered: int
    late_seconds: float


class Book:
    """Watches one queue of one server from outside, on a connection of its own."""

    def __init__(self, url: str, queue: str, *, rq_prefix: str = "rq") -> None:
        self.queue = queue
        self.rq_prefix = rq_prefix
        self.entries: list[Entry] = []
        self.reigns: list[Reign] = []
        self.life = 0
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._lease = Lease(LEASE, client=self._redis)
        # The settings are another's while this thread runs: spelled now.
        self._lease_keys = (self._lease.holder_key, self._lease.epoch_key)
        self._seen = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Book:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def ticks(self, schedule: str) -> list[int]:
        return [entry.tick for entry in list(self.entries) if entry.schedule == schedule]

    def last_tick(self) -> int:
        """How far the schedule that is attended last has come."""
        ticks = [entry.tick for entry in list(self.entries) if entry.schedule.startswith("all-")]
        return max(ticks, default=0)

    def led_again(self, *, after: float, epoch: int) -> float | None:
        """Seconds from a moment until a later epoch than that was seen."""
        seen = [reign.seen_at - after for reign in list(self.reigns) if reign.epoch > epoch and reign.seen_at >= after]
        return min(seen, default=None)

    @property
    def epoch(self) -> int:
        return self.reigns[-1].epoch if self.reigns else 0

    def _write(self) -> None:
        while not self._closed.is_set():
            with suppress(redis.RedisError):
                self._look()
            self._closed.wait(LOOK_EVERY_SECONDS)

    def _look(self) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.mget(self._lease_keys)
        pipeline.llen(f"{self.rq_prefix}:queue:{self.queue}")
        pipeline.lrange(f"{self.rq_prefix}:queue:{self.queue}", self._seen, -1)
        (token, epoch), length, ids = pipeline.execute()
        now = time.time()
        if token and epoch and int(epoch) != self.epoch:
            self.reigns.append(Reign(seen_at=now, epoch=int(epoch)))
        if length < self._seen:
            self.life, self._seen = self.life + 1, 0
        elif ids:
            self.entries += self._entries(ids)
            self._seen += len(ids)

    def _entries(self, ids: Sequence[str]) -> Iterable[Entry]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hget(f"{self.rq_prefix}:job:{job_id}", "enqueued_at")
        for job_id, enqueued_at in zip(ids, pipeline.execute(), strict=True):
            schedule, _, tick = job_id.removeprefix("cron-").rpartition("-")
            at = datetime.fromisoformat(enqueued_at).timestamp() if enqueued_at else float("nan")
            yield Entry(schedule=schedule, tick=int(tick), enqueued_at=at, life=self.life)

    def judge(self, first: int, last: int, *, lost_with_the_data: Iterable[int] = ()) -> Verdict:
        """What became of the ticks from `first` to `last`.

        While nobody leads, nothing is enqueued; as soon as somebody does, every schedule is attended. So a gap of
        "latest" was made up for if the "all" that is attended last was not attended between the first tick that was
        left out and the one that ended the gap.
        """
        wanted = set(range(first, last + 1)) - set(lost_with_the_data)
        entries = [entry for entry in self.entries if first <= entry.tick <= last]
        by_schedule: dict[str, list[Entry]] = {}
        for entry in entries:
            by_schedule.setdefault(entry.schedule, []).append(entry)
        complete = {name: found for name, found in by_schedule.items() if name.startswith("all-")}
        coalescing = {name: found for name, found in by_schedule.items() if name.startswith("latest-")}
        attended_at = [entry.enqueued_at for entry in complete[max(complete, key=_number)]]
        gaps = [gap for found in coalescing.values() for gap in _gaps(found) if not wanted.isdisjoint(range(*gap)[1:])]
        return Verdict(
            expected=len(wanted) * len(complete),
            lost=sum(len(wanted - {entry.tick for entry in found}) for found in complete.values()),
            duplicated=sum(many - 1 for many in Counter((entry.schedule, entry.tick) for entry in entries).values()),
            gaps=len(gaps),
            unanswered=sum(any(before + 1 <= at < after for at in attended_at) for before, after in gaps),
            late_seconds=max(entry.late_seconds for found in complete.values() for entry in found),
        )


def _number(schedule: str) -> int:
    return int(schedule.rpartition("-")[2])


def _gaps(entries: Iterable[Entry]) -> Iterable[tuple[int, int]]:
    """Between which ticks others were left out."""
    ticks = sorted(entry.tick for entry in entries)
    return [(before, after) for before, after in pairwise(ticks) if after - before > 1]
