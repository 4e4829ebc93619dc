"""Duties that one process of all does: candidates contend for a lease, the holder runs the duties.

The loop is written once, for `runscheduler`, `runworkers` and whoever else has duties. An app names its duties in
its `AppConfig` (`leader_duties = "dotted.path.of.a.sequence.of.Duty"`) and `runscheduler` runs them as well.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scaling_kit.lease import Lease
from scaling_kit.redis import ConnectionFailures, RedisError

logger = logging.getLogger(__name__)

AFTER_AN_ERROR_SECONDS = 1.0
STOP_IS_SEEN_WITHIN_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Duty:
    """Work of the leader.

    `run(lease)` is called every `every_seconds`, or sooner: it may return the seconds until it wants to run again.
    It must be short against the lease, and pass `lease.token` into any script whose write must be the leader's.
    """

    run: Callable[[Lease], float | None]
    every_seconds: float


class Candidate:
    """Contends for a lease until told to stop, and runs the duties while it holds it.

    A Redis that does not answer, and a lease that may have run out, end the leadership at once: when unsure who
    leads, nobody does. A duty that raises anything else is logged, run again at its next time, and no other suffers.

    `on_change(leads)` is called when leadership begins, when it ends, and when it begins again with a later epoch
    because the lease had run out unnoticed (a paused process).
    """

    def __init__(
        self, lease: Lease, duties: Sequence[Duty], *, on_change: Callable[[bool], None] = lambda _leads: None
    ) -> None:
        self.lease = lease
        self.duties = duties
        self.on_change = on_change
        self._epoch = 0  # of the leadership we are in; 0 when we are not
        self._redis_answers = True
        self._due_at: dict[Duty, float] = {}
        self._renew_at = 0.0

    @property
    def is_leader(self) -> bool:
        return self._epoch > 0 and self.lease.is_held

    def run(self, stop: threading.Event) -> None:
        """Contend and lead until `stop` is set; then hand the lease over at once."""
        while not stop.is_set():
            try:
                if self._holds():
                    stop.wait(self._lead())
                else:
                    self._stand_by(stop)
            except RedisError as error:
                self._say(error)
                self._change(epoch=0)
                stop.wait(AFTER_AN_ERROR_SECONDS)
        self._hand_over()

    def _holds(self) -> bool:
        now = time.monotonic()
        if not self.is_leader or now >= self._renew_at:
            self._change(epoch=self.lease.epoch if self.lease.hold() else 0)
            self._renew_at = now + self._lease_share()
            self._say(None)
        return self.is_leader

    def _say(self, error: RedisError | None) -> None:
        """Log that Redis went away, and that it is back; once each."""
        if (error is None) != self._redis_answers:
            self._redis_answers = error is None
            level = logging.INFO if self._redis_answers else logging.WARNING
            logger.log(level, "leadership lease=%s redis_answers=%s error=%r", self.lease.name, error is None, error)

    def _stand_by(self, stop: threading.Event) -> None:
        """Wait for `stop`, for the holder's farewell, or for the time when its lease may have run out."""
        until = time.monotonic() + max(0.01, min(self._lease_share(), self.lease.free_in_seconds))
        with suppress(RedisError):  # the farewell is a hint; without it we look when the lease runs out
            while not stop.is_set() and (left := until - time.monotonic()) > 0:
                if self.lease.wait_for_release(min(left, STOP_IS_SEEN_WITHIN_SECONDS)):
                    return
        stop.wait(max(0.0, until - time.monotonic()))

    def _lease_share(self) -> float:
        """About a third of the lease, with jitter: how often a holder renews and the others look."""
        return self.lease.ttl_seconds / 3 * random.uniform(0.8, 1.0)  # noqa: S311  (no secret)

    def _lead(self) -> float:
        """Run what is due; return the seconds until there is something to do again."""
        for duty in self.duties:
            if self.is_leader and time.monotonic() >= self._due_at.get(duty, 0.0):
                self._due_at[duty] = time.monotonic() + self._run(duty)
        next_at = min([*self._due_at.values(), self._renew_at])
        return max(0.0, next_at - time.monotonic())

    def _run(self, duty: Duty) -> float:
        try:
            wait_seconds = duty.run(self.lease)
        except ConnectionFailures:
            raise
        except Exception:
            logger.exception("duty failed lease=%s duty=%s", self.lease.name, duty.run)
            return max(duty.every_seconds, AFTER_AN_ERROR_SECONDS)
        return duty.every_seconds if wait_seconds is None else min(wait_seconds, duty.every_seconds)

    def _change(self, *, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._due_at.clear()
        logger.info("leadership lease=%s leads=%s epoch=%s", self.lease.name, epoch > 0, self.lease.epoch)
        self.on_change(epoch > 0)

    def _hand_over(self) -> None:
        if not self.lease.epoch:
            return  # it never was ours
        try:
            self.lease.release()
        except RedisError:
            logger.warning("leadership lease=%s not released, it runs out by itself", self.lease.name)
        self._change(epoch=0)
