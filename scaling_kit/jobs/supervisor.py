"""The process above the workers: starts them, says that they live, replaces them, and answers for their jobs.

Signals, as gunicorn's: TTIN and TTOU add and remove a worker; HUP replaces all, one by one, with new code; TERM and
INT let jobs end within the grace period; QUIT stops at once. It has no threads, so it may fork at any time.
"""

from __future__ import annotations

import logging
import os
import queue as stdlib_queue
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections

from scaling_kit import members
from scaling_kit.jobs import queues, transitions, upkeep
from scaling_kit.jobs.autoscale import Bounds, Load, Policy, observe
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.deaths import Debts
from scaling_kit.jobs.processes import SIGNALS, Child, fork, how_it_ended, kill, kill_group, wait_status
from scaling_kit.jobs.reload import Probe, become_new, inherited
from scaling_kit.jobs.worker import WORN_OUT, Worker, WorkerOptions
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5
OBSERVE_SECONDS = 1.0
# A worker that lived so long is not part of a crash loop.
SETTLED_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What `runworkers` was asked for."""

    processes: int
    worker: WorkerOptions
    grace_seconds: float = 30.0
    autoscale: Bounds | None = None

    @property
    def queue_names(self) -> tuple[str, ...]:
        return self.worker.order.queue_names


class Supervisor:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.processes = fleet.processes
        self._policy = Policy(fleet.autoscale) if fleet.autoscale else None
        self._observe_at = 0.0
        self.status = 0
        self._workers: list[Child] = []
        self._upkeep: Child | None = None
        self._signals: stdlib_queue.SimpleQueue[int] = stdlib_queue.SimpleQueue()
        self._stop_by: float | None = None
        self._probe = Probe()
        self._crashes = 0
        self._fork_at = 0.0
        self._beat_at = 0.0
        self._debts = Debts(self.fleet.queue_names[0])
        self._member = members.Member("supervisor", autoscale=fleet.autoscale or "")
        self._redis_reachable = True

    def run(self) -> int:
        """Supervise until told to stop, or until a burst is over; return the exit status."""
        self.processes, self._workers = inherited(self.processes)
        for signum in SIGNALS:
            signal.signal(signum, lambda signum, _frame: self._signals.put(signum))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        logger.info("supervisor started pid=%s queues=%s", os.getpid(), ",".join(self.fleet.queue_names))
        while not self._is_done():
            self._fill()
            self._beat()
            self._handle_signals()
            self._reap()
            self._settle_debts()
            self._autoscale()
            self._retire_surplus()
            self._take_new_code()
            self._enforce_grace()
        self._end_upkeep()
        self._leave()
        return self.status

    # --- signals

    def _handle_signals(self) -> None:
        """Wait for a signal, or the next tick."""
        try:
            signum = self._signals.get(timeout=self._tick_seconds())
        except stdlib_queue.Empty:
            return
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: lambda: self._stop(self.fleet.grace_seconds),
            signal.SIGINT: lambda: self._stop(self.fleet.grace_seconds if self._stop_by is None else 0.0),
            signal.SIGQUIT: lambda: self._stop(0.0),
            signal.SIGHUP: self._reload,
            signal.SIGTTIN: lambda: self._resize(+1),
            signal.SIGTTOU: lambda: self._resize(-1),
        }
        handlers.get(signum, lambda: None)()

    def _tick_seconds(self) -> float:
        until_fork = self._fork_at - time.monotonic()
        calm = until_fork if 0 < until_fork < TICK_SECONDS else TICK_SECONDS
        return calm if self._is_calm() else 0.05

    def _is_calm(self) -> bool:
        """Nothing is under way that would have to be looked at often."""
        return self._stop_by is None and not self._probe.is_running and all(child.is_ready() for child in self._workers)

    def _stop(self, grace_seconds: float) -> None:
        logger.info("supervisor stopping grace_seconds=%s", grace_seconds)
        self._stop_by = time.monotonic() + grace_seconds
        for child in self._workers:
            self._retire(child)

    def _reload(self) -> None:
        if self._stop_by is None:
            self._probe.begin()

    def _take_new_code(self) -> None:
        if self._probe.has_succeeded() and self._stop_by is None:
            self._end_upkeep()
            become_new(self.processes, self._workers)

    def _resize(self, change: int) -> None:
        if self._policy:
            logger.warning("supervisor not resized: --autoscale %s decides", self._policy.bounds)
            return
        self.processes = max(1, self.processes + change)
        logger.info("supervisor resized processes=%s", self.processes)

    # --- workers

    def _autoscale(self) -> None:
        """Follow the queues. While they cannot be seen, keep what there is."""
        now = time.monotonic()
        if self._policy is None or self._stop_by is not None or now < self._observe_at:
            return
        self._observe_at = now + OBSERVE_SECONDS
        try:
            load = self._observe()
        except RedisError:
            self._policy.forget()
            return
        wanted = self._policy.wanted(now, load, self.processes)
        if wanted != self.processes:
            seen = (load.waiting, load.oldest_seconds, len(load.busy))
            logger.info("supervisor resized processes=%s waiting=%s oldest_seconds=%.3f busy=%s", wanted, *seen)
            self.processes, self._beat_at = wanted, 0.0

    def _observe(self) -> Load:
        return observe(self.fleet.queue_names, [child.name for child in self._workers if not child.stopping])

    def _fill(self) -> None:
        """Fork the workers that are missing; while outdated ones remain, one more than asked for."""
        active = [child for child in self._workers if not child.stopping]
        up_to_date = [child for child in active if not child.outdated]
        room = self.processes + (1 if len(up_to_date) < len(active) else 0)
        if self._stop_by is not None or time.monotonic() < self._fork_at:
            return
        for _ in range(min(self.processes - len(up_to_date), room - len(active))):
            self._workers.append(self._fork_worker())
        if self._upkeep is None:
            self._upkeep = Child(name="", pid=fork(upkeep.run_candidate))

    def _fork_worker(self) -> Child:
        name = f"{members.host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        ready_fd, tell_fd = os.pipe()
        os.set_blocking(ready_fd, False)

        def work() -> int:
            worker = queues.insist(lambda: Worker(self.fleet.worker, name=name))
            status = worker.run(on_ready=lambda: os.close(tell_fd))
            connections.close_all()
            return status

        self._beat_at = 0.0
        pid = fork(work)
        os.close(tell_fd)
        logger.info("worker started pid=%s name=%s", pid, name)
        return Child(name=name, pid=pid, ready_fd=ready_fd)

    def _retire_surplus(self) -> None:
        """Ask one worker to end if there are more than asked for, all of them ready: outdated and idle ones first.

        One that has a job ends after it, whatever we believe it to do.
        """
        active = [child for child in self._workers if not child.stopping]
        ready = [child for child in active if child.is_ready()]
        if len(ready) > self.processes:
            busy = self._busy()
            self._retire(min(ready, key=lambda child: (not child.outdated, child.name in busy, -child.started_at)))

    def _busy(self) -> frozenset[str]:
        try:
            return self._observe().busy
        except RedisError:
            return frozenset()

    def _retire(self, child: Child) -> None:
        child.stopping = True
        kill(child.pid, signal.SIGTERM)

    def _enforce_grace(self) -> None:
        if self._stop_by is not None and time.monotonic() >= self._stop_by:
            for child in self._workers:
                kill_group(child.pid)

    def _is_done(self) -> bool:
        return not self._workers and not self._debts and (self._stop_by is not None or self.processes == 0)

    # --- deaths

    def _reap(self) -> None:
        for child in list(self._workers):
            status = wait_status(child.pid)
            if status is not None:
                self._workers.remove(child)
                self._bury(child, status)
        if self._upkeep and wait_status(self._upkeep.pid) is not None:
            logger.warning("upkeep process died pid=%s", self._upkeep.pid)
            self._upkeep = None
            self._fork_at = time.monotonic() + 1.0

    def _bury(self, child: Child, status: int) -> None:
        """See to what a worker that died leaves behind: its child, its jobs, its place."""
        kill_group(child.pid)
        child.forget_fd()
        members.forget(child.pid)
        how = how_it_ended(status)
        in_peace = status == 0 or _is_worn_out(status)
        log = logger.info if in_peace else logger.warning
        log("worker ended pid=%s name=%s %s", child.pid, child.name, how)
        self._debts.owe(child.name, self._why(how, in_peace=in_peace), killed=not in_peace and self._stop_by is None)
        jobs = self._settle_debts()
        if in_peace and self._stop_by is not None and not self._redis_reachable:
            self._debts.forget(child.name)  # most likely nothing: not worth waiting for Redis
        if status == 0:
            self.processes -= 1 if self.fleet.worker.burst else 0  # it found nothing more to do
        elif not in_peace and not child.stopping:
            self._back_off(died_young=time.monotonic() - child.started_at < SETTLED_SECONDS and not jobs)

    def _why(self, how: str, *, in_peace: bool) -> str:
        """The reason that is told of jobs which are handed back."""
        if in_peace:
            return "its worker ended before it was told that it had claimed it"
        return f"the worker was {how}" if self._stop_by is None else "the grace period was over"

    def _settle_debts(self) -> int:
        """Hand back the jobs of workers that died, as soon as Redis can be told; return how many those were."""
        if self._are_more_to_die():
            return 0
        try:
            return self._debts.settle()
        except RedisError as error:
            self._redis_is_away(error)
            if self._stop_by is not None and time.monotonic() > self._stop_by + 5:
                self._debts.forget()  # the sweep of another host hands them back
            return 0

    def _are_more_to_die(self) -> bool:
        """The grace period is over: all are killed together, so that their jobs are handed back in order."""
        now = time.monotonic()
        return self._stop_by is not None and bool(self._workers) and self._stop_by <= now < self._stop_by + 1

    def _back_off(self, *, died_young: bool) -> None:
        self._crashes = self._crashes + 1 if died_young else 0
        self._fork_at = time.monotonic() + min(0.1 * 2**self._crashes, MAX_BACKOFF_SECONDS) * died_young
        if self._crashes >= settings.CRASH_LIMIT and self._stop_by is None:
            logger.error("supervisor gives up crashes=%s: workers die as soon as they are started", self._crashes)
            self.status = 1
            self._stop(self.fleet.grace_seconds)

    # --- signs of life

    def _beat(self) -> None:
        """Say that the workers live. It is said here, so that no job can hold it up."""
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + settings.WORKER_TTL_SECONDS / 5
        try:
            transitions.beat(self.fleet.queue_names[0], [child.name for child in self._workers])
            self._member.update(state="stopping" if self._stop_by else "running", processes=self.processes)
            self._member.beat()
        except RedisError as error:
            self._redis_is_away(error)
            self._beat_at = time.monotonic() + min(1.0, settings.WORKER_TTL_SECONDS / 5)
        else:
            if not self._redis_reachable:
                logger.info("supervisor redis_reachable=True")
            self._redis_reachable = True

    def _redis_is_away(self, error: Exception) -> None:
        if self._redis_reachable:
            logger.warning("supervisor redis_reachable=False error=%r", error)
        self._redis_reachable = False

    def _end_upkeep(self) -> None:
        if self._upkeep is None:
            return
        kill(self._upkeep.pid, signal.SIGTERM)
        deadline = time.monotonic() + 3.0
        while wait_status(self._upkeep.pid) is None:
            if time.monotonic() > deadline:
                kill(self._upkeep.pid, signal.SIGKILL)
            time.sleep(0.02)
        self._upkeep = None

    def _leave(self) -> None:
        members.forget(os.getpid())
        logger.info("supervisor ended status=%s", self.status)


def _is_worn_out(status: int) -> bool:
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == WORN_OUT
