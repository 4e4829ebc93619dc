"""How many workers a fleet needs, by how long the oldest job has waited: a long queue of short jobs needs no more.

More are wanted at once and fewer slowly: a job that waits costs somebody's time, an idle worker some memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from typing import NamedTuple

from rq.defaults import RQ_KEY_PREFIX
from rq.utils import str_to_date

from scaling_kit.jobs import queues
from scaling_kit.jobs.conf import settings
from scaling_kit.redis import Purpose, Script

OBSERVE = Script.beside(__file__, "observe", idempotent=True)


class Bounds(NamedTuple):
    """The least and the most workers there may be."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.most}"

    def clamp(self, workers: int) -> int:
        return max(self.least, min(self.most, workers))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What was seen of the queues and the workers at one moment."""

    waiting: int = 0
    oldest_seconds: float = 0.0
    busy: frozenset[str] = frozenset()
    """Names of the workers that have a job in hand."""


class Policy:
    """Says how many workers there should be. Knows no clock: `now` is in seconds, from any start."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._raised_at = float("-inf")
        self._spare_since: float | None = None

    def wanted(self, now: float, load: Load, workers: int) -> int:
        """The number of workers that should follow on `workers`; the same again if nothing speaks against it.

        Up to twice as many when the oldest job has waited longer than the latency asked for, at most once in that
        time, so that the new ones can show what they do. One less when, for the whole of the quiet time, nothing
        waited and a worker was idle: one less would have done.
        """
        if load.oldest_seconds > settings.AUTOSCALE_LATENCY_SECONDS:
            workers = self._more(now, load, workers)
        return self.bounds.clamp(workers - self._is_one_to_spare(now, load, workers))

    def forget(self) -> None:
        """The queues could not be seen for a while: what was seen before says nothing of that time."""
        self._spare_since = None

    def _more(self, now: float, load: Load, workers: int) -> int:
        if now - self._raised_at < settings.AUTOSCALE_LATENCY_SECONDS:
            return workers
        self._raised_at = now
        work_for = len(load.busy) + load.waiting
        return max(workers, min(2 * workers, work_for))

    def _is_one_to_spare(self, now: float, load: Load, workers: int) -> bool:
        if load.waiting or len(load.busy) >= workers or workers <= self.bounds.least:
            self._spare_since = None
            return False
        if self._spare_since is None:
            self._spare_since = now
        if now - self._spare_since < settings.AUTOSCALE_QUIET_SECONDS:
            return False
        self._spare_since = now
        return True


def observe(queue_names: Sequence[str], workers: Sequence[str] = ()) -> Load:
    """The load of these queues, which are in one Redis, and of these workers. Raises `redis.RedisError`.

    What nobody may take does not wait: the jobs of a paused queue, and all while RQ is suspended.
    """
    now, waiting, heads, busy = OBSERVE(
        queues.connection(queue_names[0], Purpose.REQUEST),
        [queues.paused_key(), *map(queues.queue_key, queue_names)],
        [RQ_KEY_PREFIX, *workers],
    )
    ages = [float(now) - enqueued_at for enqueued_at in _moments(heads)]
    return Load(
        waiting=waiting,
        oldest_seconds=max([0.0, *ages]),
        busy=frozenset(name.decode() for name in busy),
    )


def _moments(texts: Sequence[bytes]) -> Iterator[float]:
    for text in texts:
        with suppress(ValueError):  # a malformed job: the worker that takes it says so
            yield str_to_date(text).replace(tzinfo=UTC).timestamp()
