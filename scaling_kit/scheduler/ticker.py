"""The leader's duty: see which schedules are due, and claim their ticks."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

import redis

from scaling_kit import members
from scaling_kit.leadership import Duty
from scaling_kit.lease import Lease
from scaling_kit.redis import ConnectionFailures
from scaling_kit.scheduler import claim, stored
from scaling_kit.scheduler.claim import Claim, Outcome, State
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Schedule, discovered
from scaling_kit.scheduler.timetable import latest

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.2
AFTER_A_FAILURE_SECONDS = 5.0
# A tick that is held looks so often whether the job before it is over.
HELD_SECONDS = 0.5
ASK_EVERY_SECONDS = 1.0
READ_EVERY_SECONDS = 30.0
# Claims in one round trip: few enough that the lease is looked at in between.
PER_ROUND_TRIP = 250
NEVER = float("inf")
TAKES_NO_WRITES = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)


class Progress:
    """A schedule as the leader sees it. Times are Redis's."""

    next_tick: float
    _tick_after: float

    def __init__(self, schedule: Schedule, state: State) -> None:
        self.schedule = schedule
        self.state = state
        self.is_held = False
        """Its tick waits for the job of the tick before."""
        self._look_ahead()

    @property
    def next_at(self) -> float:
        """When there is something to do."""
        return self.next_tick + self.schedule.delay_seconds

    def advance(self, state: State) -> None:
        """Its watermark has moved."""
        self.state = state
        if state.watermark == self.next_tick:
            self.next_tick, self._tick_after = self._tick_after, next(self._ticks, NEVER)
        elif state.watermark > self.next_tick:
            self._look_ahead()

    def ticks_to_run(self, now: float) -> list[int]:
        """Those that are due and wanted, in order."""
        oldest_wanted = self.schedule.oldest_wanted(now)
        if self._tick_after > now:  # the usual case: it costs no look at the timetable
            return [int(self.next_tick)] if oldest_wanted < self.next_tick <= now else []
        limit = settings.CATCH_UP_LIMIT if self.schedule.catch_up == "all" else 1
        after = max(self.state.watermark, oldest_wanted)
        return latest(self.schedule.timetable, after=after, until=now, limit=limit)

    def _look_ahead(self) -> None:
        self._ticks = self.schedule.timetable.ticks(self.state.watermark)
        self.next_tick = next(self._ticks, NEVER)
        self._tick_after = next(self._ticks, NEVER)


class Ticker:
    """Enqueues each due tick of each schedule. What it remembers is valid for one epoch of the lease.

    `schedules` is asked when the leadership begins, when `fetch_revision` answers something new, which it is asked
    once a second, and every half minute, should that have been missed.
    """

    def __init__(
        self,
        schedules: Callable[[], Iterable[Schedule]] = discovered,
        fetch_revision: Callable[[redis.Redis], str] = lambda _client: "",
    ) -> None:
        self.schedules = schedules
        self.fetch_revision = fetch_revision
        self._epoch = 0
        self._revision = ""
        self._ask_at = 0.0
        self._read_at = 0.0
        self._read: list[Schedule] = []
        self._agenda: list[tuple[float, int, Progress]] = []
        self._count = count()

    def run(self, lease: Lease) -> float:
        """Claim what is due. Returns the seconds until the next tick. Raises a connection failure of Redis."""
        try:
            self._stay_up_to_date(lease)
            until = lease.now()  # what becomes due meanwhile comes next time: the lease wants to be renewed
            while lease.is_held and (due := self._due(until)):
                self._attend(due, lease)
        except BaseException:
            self._epoch = 0  # begin anew: what was in hand is not on the agenda
            raise
        next_at = self._agenda[0][0] if self._agenda else NEVER
        return max(0.0, next_at - lease.now())

    # --- what there is to run

    def _stay_up_to_date(self, lease: Lease) -> None:
        now = time.monotonic()
        if lease.epoch != self._epoch:
            self._revision = self.fetch_revision(lease.client)
            self._begin(list(self.schedules()), lease)
        elif now >= self._ask_at:
            revision = self.fetch_revision(lease.client)
            if revision != self._revision or now >= self._read_at:
                self._change(lease)
            self._revision = revision
        else:
            return
        self._ask_at = now + ASK_EVERY_SECONDS

    def _change(self, lease: Lease) -> None:
        schedules = list(self.schedules())
        if list(map(id, schedules)) == list(map(id, self._read)):  # [1] and [true] are equal, and not the same
            self._read_at = time.monotonic() + READ_EVERY_SECONDS
            return
        logger.info("schedules changed count=%s", len(schedules))
        self._begin(schedules, lease)

    def _begin(self, schedules: list[Schedule], lease: Lease) -> None:
        enabled = [one for one in schedules if one.enabled]
        states = claim.begin(lease, enabled, [one for one in schedules if not one.enabled])
        if states is None:
            lease.mark_lost()
            return
        self._epoch = lease.epoch
        self._read, self._read_at = schedules, time.monotonic() + READ_EVERY_SECONDS
        self._agenda.clear()
        for schedule, state in zip(enabled, states, strict=True):
            try:
                progress = Progress(schedule, state)
            except Exception:  # it must not hold up the others
                logger.exception("tick failed schedule=%s, it is left out", schedule.name)
            else:
                self._put(progress, progress.next_at)

    def _put(self, progress: Progress, at: float) -> None:
        heapq.heappush(self._agenda, (at, next(self._count), progress))

    # --- running it

    def _due(self, now: float) -> list[Progress]:
        """Schedules with something to do, as many as one round trip takes."""
        due: list[Progress] = []
        while self._agenda and self._agenda[0][0] <= now and len(due) < PER_ROUND_TRIP:
            due.append(heapq.heappop(self._agenda)[2])
        return due

    def _attend(self, due: list[Progress], lease: Lease) -> None:
        """Claim the first tick of each; what is due of each after that comes with the next round trip."""
        claims = [(progress, one) for progress in due if (one := self._claim_of(progress, lease))]
        answers = claim.claim_many(lease, [one for _, one in claims])
        for (progress, one), answer in zip(claims, answers, strict=True):
            self._answered(progress, one, answer, lease)

    def _claim_of(self, progress: Progress, lease: Lease) -> Claim | None:
        try:
            ticks = self._wanted(progress, lease.now() - progress.schedule.delay_seconds)
            if ticks:
                return Claim.of(lease, progress.schedule, ticks[0], progress.state)
            self._put(progress, progress.next_at)
        except ConnectionFailures:
            raise
        except Exception:  # it must not hold up the others
            logger.exception("tick failed schedule=%s, tried again", progress.schedule.name)
            self._put(progress, lease.now() + AFTER_A_FAILURE_SECONDS)
        return None

    def _wanted(self, progress: Progress, now: float) -> list[int]:
        """The ticks to run; those before them are dropped."""
        ticks = progress.ticks_to_run(now)
        due_at = progress.next_tick
        if due_at <= now and due_at not in ticks:
            until = ticks[0] if ticks else now
            logger.warning("ticks dropped schedule=%s from=%s until=%s", progress.schedule.name, due_at, until)
        if not ticks:
            progress.advance(replace(progress.state, watermark=max(int(now), progress.state.watermark)))
        return ticks

    def _answered(
        self, progress: Progress, one: Claim, answer: tuple[Outcome, State] | redis.ResponseError, lease: Lease
    ) -> None:
        if isinstance(answer, TAKES_NO_WRITES):
            raise answer  # it is the same for all of them
        if isinstance(answer, redis.ResponseError):
            logger.error("tick failed schedule=%s tick=%s error=%r", progress.schedule.name, one.tick, answer)
            self._put(progress, lease.now() + AFTER_A_FAILURE_SECONDS)
            return
        outcome, state = answer
        progress.advance(state)
        was_held, progress.is_held = progress.is_held, outcome is Outcome.HELD
        if not (was_held and progress.is_held):
            self._tell(progress, one.tick, outcome, lease)
        if outcome is Outcome.FENCED:
            self._epoch = 0
            lease.mark_lost()
        elif outcome is Outcome.HELD:
            self._put(progress, lease.now() + HELD_SECONDS)
        else:
            self._put(progress, progress.next_at)

    def _tell(self, progress: Progress, tick: int, outcome: Outcome, lease: Lease) -> None:
        late_ms = round((lease.now() - tick - progress.schedule.delay_seconds) * 1000)
        name = progress.schedule.name
        logger.info("tick schedule=%s tick=%s outcome=%s late_ms=%s", name, tick, outcome, late_ms)
        members.count(f"scheduler.{outcome}")


duties = (Duty(run=Ticker(stored.current, stored.fetch_revision).run, every_seconds=LOOK_EVERY_SECONDS),)
