"""Where a worker runs its jobs: each in a child of its own, in the worker itself, or in several threads of it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from django.db import connections
from rq.timeouts import JobTimeoutException

from scaling_kit.jobs import queues
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.deaths import record_stop
from scaling_kit.jobs.interrupts import JobStopped, SignalDeadline, Slot, ThreadDeadline
from scaling_kit.jobs.performer import Performer
from scaling_kit.jobs.plain_jobs import PlainJobWorker
from scaling_kit.jobs.processes import die_with, how_it_ended
from scaling_kit.jobs.transitions import Claimed

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs the jobs that a worker claims."""

    def has_room(self) -> bool:
        """May another job be started?"""

    def running(self) -> list[Claimed]: ...
    def in_hand(self) -> int:
        """How many jobs were started and have not ended; some of them may not be `running` yet."""
        return len(self.running())

    def start(self, claimed: Claimed) -> None:
        """Run the job; returns when it has ended, or when it runs in a thread."""

    def look(self) -> float:
        """Enforce time limits; return the seconds until that is due again."""
        return float("inf")

    def stop_job(self, job_id: str) -> None:
        """End a job as `stopped`, if it runs here. Called from another thread."""

    def close(self) -> None:
        """End what waits for jobs."""
        return

    def stuck(self) -> list[Claimed]:
        """Jobs in threads that cannot be freed. If there are any, this process must be replaced."""
        return []


class InlineRunner(Runner):
    """Runs the job in the main thread of the worker."""

    def __init__(self, plain: PlainJobWorker) -> None:
        self._performer = Performer(plain, SignalDeadline)
        self._claimed: Claimed | None = None
        self._stop_wanted = ""
        signal.signal(signal.SIGUSR1, self._stop_if_still_wanted)

    def has_room(self) -> bool:
        return True

    def running(self) -> list[Claimed]:
        return [self._claimed] if self._claimed else []

    def start(self, claimed: Claimed) -> None:
        self._claimed = claimed
        self._performer.perform(claimed)
        self._claimed = None
        self._performer.count()

    def stop_job(self, job_id: str) -> None:
        self._stop_wanted = job_id
        os.kill(os.getpid(), signal.SIGUSR1)  # Python handles it in the main thread

    def _stop_if_still_wanted(self, *_: object) -> None:
        if SignalDeadline.is_open and self._claimed and self._claimed.job_id == self._stop_wanted:
            self._performer.plain.will_be_stopped(self._stop_wanted)
            raise JobStopped("Somebody stopped the job")


class ForkRunner(Runner):
    """Runs the job in a forked child, and waits for that."""

    def __init__(self, plain: PlainJobWorker) -> None:
        self._performer = Performer(plain, SignalDeadline)
        self._claimed: Claimed | None = None
        self._child = 0
        self._stopped = False

    def has_room(self) -> bool:
        return True

    def running(self) -> list[Claimed]:
        return [self._claimed] if self._claimed else []

    def start(self, claimed: Claimed) -> None:
        self._stopped = False
        self._claimed = claimed
        reason = self._run_in_child(claimed)
        if self._stopped:
            record_stop(claimed, worker=self._performer.worker)
        else:
            self._performer.settle(claimed, reason)
        self._claimed = None
        self._performer.count()

    def stop_job(self, job_id: str) -> None:
        if self._child and self._claimed and self._claimed.job_id == job_id:
            self._stopped = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)

    def _run_in_child(self, claimed: Claimed) -> str:
        """Run the job in a forked child; return how that child ended."""
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        ended_fd, held_by_child_fd = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            self._be_child(parent, claimed)
        self._child = child
        os.close(held_by_child_fd)
        try:
            return self._watch(child, ended_fd, _limit(claimed))
        finally:
            self._child = 0
            os.close(ended_fd)

    def _be_child(self, parent: int, claimed: Claimed) -> None:
        status = 1
        try:
            die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker waits for us
            self._performer.plain.is_forked()
            self._performer.perform(claimed)
            status = 0
        except BaseException:
            logger.exception("job could not be run id=%s", claimed.job_id)
        finally:
            with contextlib.suppress(Exception):
                connections.close_all()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _watch(self, child: int, ended_fd: int, limit: float) -> str:
        deadline = time.monotonic() + limit + settings.TIMEOUT_MARGIN_SECONDS
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return how_it_ended(status)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                deadline = float("inf")
            # Its end closes the pipe; a second suffices should a grandchild hold that open.
            if select.select([ended_fd], [], [], 1.0)[0]:
                return how_it_ended(os.waitpid(child, 0)[1])


class ThreadRunner(Runner):
    """Runs several jobs at once, each in a thread of the worker.

    A thread that has ended a job asks `claim_next` for another; when there is none it calls `wake`, and waits.
    """

    def __init__(
        self,
        plain: PlainJobWorker,
        concurrency: int,
        *,
        claim_next: Callable[[int], Claimed | None],
        wake: Callable[[], None],
    ) -> None:
        self._performer = Performer(plain, ThreadDeadline)
        self._claim_next = claim_next
        self._wake = wake
        self._slots = [Slot(number) for number in range(concurrency)]
        self._to_do: SimpleQueue[Claimed | None] = SimpleQueue()
        self._in_hand = 0
        self._counting = threading.Lock()
        for slot in self._slots:
            threading.Thread(target=self._work, args=[slot], name=f"job-{slot.number}", daemon=True).start()

    def has_room(self) -> bool:
        return self._in_hand < len(self._slots)

    def in_hand(self) -> int:
        return self._in_hand

    def running(self) -> list[Claimed]:
        return [claimed for slot in self._slots if (claimed := slot.claimed)]

    def start(self, claimed: Claimed) -> None:
        self._change_in_hand(+1)
        self._to_do.put(claimed)

    def look(self) -> float:
        now = time.monotonic()
        for slot in self._slots:
            if slot.deadline <= now:
                slot.interrupt(JobTimeoutException)
        return max(0.01, min(slot.deadline for slot in self._slots) - now)

    def stop_job(self, job_id: str) -> None:
        for slot in self._slots:
            if slot.claimed and slot.claimed.job_id == job_id:
                self._performer.plain.will_be_stopped(job_id)
                slot.interrupt(JobStopped)

    def close(self) -> None:
        for _ in self._slots:
            self._to_do.put(None)

    def stuck(self) -> list[Claimed]:
        given_up = time.monotonic() - settings.TIMEOUT_MARGIN_SECONDS
        return [claimed for slot in self._slots if slot.deadline < given_up and (claimed := slot.claimed)]

    def _work(self, slot: Slot) -> None:
        slot.belongs_to_this_thread()
        while claimed := self._to_do.get():
            slot.claimed = claimed
            while slot.claimed:
                self._perform(slot.claimed, slot.number)
                slot.claimed = self._claim_next(slot.number)
            self._change_in_hand(-1)
            self._wake()

    def _perform(self, claimed: Claimed, slot: int) -> None:
        try:
            self._performer.perform(claimed, slot)
        except BaseException:
            logger.exception("job could not be run id=%s", claimed.job_id)
        self._performer.count()

    def _change_in_hand(self, by: int) -> None:
        with self._counting:
            self._in_hand += by


def _limit(claimed: Claimed) -> float:
    """Seconds after which the job times out."""
    text = claimed.fields.get(b"timeout", b"").decode()
    limit = int(text) if text.lstrip("-").isdigit() else queues.stock_queue(claimed.queue_name)._default_timeout
    return float(limit) if limit > 0 else float("inf")
