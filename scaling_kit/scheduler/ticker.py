"""The leader's duty: see which schedules are due, and claim their ticks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from scaling_kit import members
from scaling_kit.leadership import Duty
from scaling_kit.lease import Lease
from scaling_kit.redis import ConnectionFailures
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.claim import Outcome, State
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Schedule, discovered
from scaling_kit.scheduler.timetable import latest

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.2
AFTER_A_FAILURE_SECONDS = 5.0
NEVER = float("inf")


@dataclass(kw_only=True)
class Progress:
    """A schedule as the leader sees it. Times are Redis's."""

    schedule: Schedule
    state: State
    look_at: float = 0.0
    """When its next tick is due, as soon as that has been found out."""


class Ticker:
    """Enqueues each due tick of each schedule. What it remembers is valid for one epoch of the lease."""

    def __init__(self, schedules: Callable[[], Iterable[Schedule]] = discovered) -> None:
        self.schedules = schedules
        self._epoch = 0
        self._progress: list[Progress] = []

    def run(self, lease: Lease) -> float:
        """Claim what is due. Returns the seconds until the next tick. Raises a connection failure of Redis."""
        if lease.epoch != self._epoch:
            self._begin(lease)
        for progress in self._progress:
            if lease.is_held and progress.look_at <= lease.now():
                self._attend(progress, lease)
        next_at = min((progress.look_at for progress in self._progress), default=NEVER)
        return max(0.0, next_at - lease.now())

    def _begin(self, lease: Lease) -> None:
        schedules = list(self.schedules())
        enabled = [one for one in schedules if one.enabled]
        states = claim.begin(lease, enabled, [one for one in schedules if not one.enabled])
        if states is None:
            lease.mark_lost()
            return
        self._epoch = lease.epoch
        self._progress = [
            Progress(schedule=schedule, state=state) for schedule, state in zip(enabled, states, strict=True)
        ]

    def _attend(self, progress: Progress, lease: Lease) -> None:
        try:
            self._catch_up(progress, lease)
        except ConnectionFailures:
            raise
        except Exception:
            logger.exception("tick failed schedule=%s, tried again", progress.schedule.name)
            progress.look_at = lease.now() + AFTER_A_FAILURE_SECONDS

    def _catch_up(self, progress: Progress, lease: Lease) -> None:
        schedule, state, now = progress.schedule, progress.state, lease.now()
        due_at = _next_tick(schedule, state.watermark)
        if due_at > now:
            progress.look_at = due_at
            return
        ticks = _ticks_to_run(schedule, state.watermark, now)
        if due_at not in ticks:
            logger.warning(
                "ticks dropped schedule=%s from=%s until=%s", schedule.name, due_at, ticks[0] if ticks else now
            )
        for tick in ticks:
            if not self._claim(progress, tick, lease):
                return
        progress.state = replace(progress.state, watermark=max(int(now), progress.state.watermark))
        progress.look_at = _next_tick(schedule, progress.state.watermark)

    def _claim(self, progress: Progress, tick: int, lease: Lease) -> bool:
        """False if we do not lead."""
        name = progress.schedule.name
        outcome, progress.state = claim.claim(lease, progress.schedule, tick, progress.state)
        late_ms = round((lease.now() - tick) * 1000)
        logger.info("tick schedule=%s tick=%s outcome=%s late_ms=%s", name, tick, outcome, late_ms)
        members.count(f"scheduler.{outcome}")
        if outcome is Outcome.FENCED:
            lease.mark_lost()
        return outcome is not Outcome.FENCED


def _ticks_to_run(schedule: Schedule, watermark: int, now: float) -> list[int]:
    limit = settings.CATCH_UP_LIMIT if schedule.catch_up == "all" else 1
    after = max(watermark, schedule.oldest_wanted(now))
    return latest(schedule.timetable, after=after, until=now, limit=limit)


def _next_tick(schedule: Schedule, after: int) -> float:
    return next(schedule.timetable.ticks(after), NEVER)


duties = (Duty(run=Ticker().run, every_seconds=LOOK_EVERY_SECONDS),)
