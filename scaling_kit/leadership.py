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
from dataclasses import dataclass

from scaling_kit.lease import Lease
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)


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

    Any Redis error, and a lease that may have run out, end the leadership at once: when unsure who leads, nobody
    does. A duty that raises anything else is logged and run again at its next time.
    """

    def __init__(
        self, lease: Lease, duties: Sequence[Duty], *, on_change: Callable[[bool], None] = lambda _leads: None
    ) -> None:
        self.lease = lease
        self.duties = duties
        self.on_change = on_change
        self._leads = False
        self._due_at: dict[Duty, float] = {}
        self._renew_at = 0.0

    @property
    def is_leader(self) -> bool:
        return self._leads and self.lease.is_held

    def run(self, stop: threading.Event) -> None:
        """Contend and lead until `stop` is set; then hand the lease over at once."""
        while not stop.is_set():
            try:
                wait_seconds = self._lead() if self._holds() else self._lease_share()
            except RedisError as error:
                logger.warning("leadership lease=%s redis_error=%r", self.lease.name, error)
                self._change(leads=False)
                wait_seconds = 1.0
            stop.wait(wait_seconds)
        self._hand_over()

    def _holds(self) -> bool:
        now = time.monotonic()
        if not self.is_leader or now >= self._renew_at:
            self._change(leads=self.lease.hold())
            self._renew_at = now + self._lease_share()
        return self.is_leader

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
        except RedisError:
            raise
        except Exception:
            logger.exception("duty failed lease=%s duty=%s", self.lease.name, duty.run)
            return duty.every_seconds
        return duty.every_seconds if wait_seconds is None else min(wait_seconds, duty.every_seconds)

    def _change(self, *, leads: bool) -> None:
        if leads == self._leads:
            return
        self._leads = leads
        self._due_at.clear()
        logger.info("leadership lease=%s leads=%s epoch=%s", self.lease.name, leads, self.lease.epoch)
        self.on_change(leads)

    def _hand_over(self) -> None:
        if not self._leads:
            return
        try:
            self.lease.release()
        except RedisError:
            logger.warning("leadership lease=%s not released, it runs out by itself", self.lease.name)
        self._change(leads=False)
