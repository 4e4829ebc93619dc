"""A worker process: claims jobs and gives them to its runner. Started and watched by the supervisor."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from scaling_kit import members
from scaling_kit.jobs import orders, queues, transitions
from scaling_kit.jobs.doorbell import Doorbell
from scaling_kit.jobs.order import Order
from scaling_kit.jobs.plain_jobs import PlainJobWorker
from scaling_kit.jobs.runners import ForkRunner, InlineRunner, Runner, ThreadRunner
from scaling_kit.jobs.transitions import Claimed

logger = logging.getLogger(__name__)

# An idle worker looks by itself so often, should the doorbell not ring.
IDLE_SECONDS = 1.0
# The main thread; those for jobs are counted from 0.
MAIN = -1
# How a worker ends that has done its --max-jobs or grown beyond its --max-memory: it wants to be replaced.
WORN_OUT = 3


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What is asked of a worker.

    `mode`: `fork` runs each job in a child of its own, `simple` in the worker, `threads` up to `concurrency` at once.
    A worker that has started `max_jobs`, or has more than `max_memory_bytes` resident when a job has ended, takes no
    more and ends with the status `WORN_OUT`; 0: no limit. In a `burst` it ends when its queues are empty.
    """

    order: Order
    mode: Literal["fork", "simple", "threads"] = "fork"
    concurrency: int = 8
    max_jobs: int = 0
    max_memory_bytes: int = 0
    burst: bool = False


class Worker:
    """One worker. `run` calls `on_ready` when it can take jobs."""

    def __init__(self, options: WorkerOptions, *, name: str) -> None:
        self.options = options
        self.name = name
        self._queue_names = options.order.queue_names
        self._plain = PlainJobWorker(self._queue_names, name)
        self._started = 0
        self._shown = ""
        self._told: set[str] = set()
        self._measure_at = 0.0
        self._rss_bytes = 0
        self._stopping = False
        self._redis_reachable = True
        self._execution_ids: defaultdict[int, str] = defaultdict(_new_id)
        self._open_queues: Sequence[str] = self._queue_names
        self._doorbell = Doorbell(self._queue_names)
        self._wake_fd, self._signalled_fd = os.pipe()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Work until told to stop (TERM: after the jobs in hand), until worn out, or until a burst is over."""
        self._listen_to_signals()
        queues.insist(self._plain.register_birth)
        self._runner = self._make_runner()
        self._end_orders = orders.obey(self._queue_names[0], self.name, self._obey)
        self.member = members.join("worker", state="idle", queues=",".join(self._queue_names), job="")
        on_ready()
        while not self._is_done():
            self._step()
        self._drain()
        self._leave()
        return self._status()

    def _make_runner(self) -> Runner:
        if self.options.mode == "threads":
            return ThreadRunner(self._plain, self.options.concurrency, claim_next=self._claim_next, wake=self._wake)
        return ForkRunner(self._plain) if self.options.mode == "fork" else InlineRunner(self._plain)

    def _is_done(self) -> bool:
        return self._stopping or self._is_worn_out() or bool(self._runner.stuck())

    def _step(self) -> None:
        look_again_seconds = self._runner.look()
        claimed = self._claim(MAIN) if self._runner.has_room() else None
        if claimed:
            self._show(claimed)
            self._runner.start(claimed)
        elif self.options.burst and self._redis_reachable and not self._runner.running():
            self._stopping = True
        else:
            self._show()
            self._wait(look_again_seconds)

    def _drain(self) -> None:
        """Let the jobs in hand end; the supervisor sees to it that this does not take for ever."""
        while len(self._runner.running()) > len(self._runner.stuck()):
            self._wait_awake(min(IDLE_SECONDS, self._runner.look()))

    def _leave(self) -> None:
        self._end_orders()
        self._doorbell.close()
        self.member.leave()
        if self._runner.running():
            return  # the supervisor needs to find what we leave behind
        self._runner.close()
        signal.set_wakeup_fd(-1)
        for fd in (self._wake_fd, self._signalled_fd):
            os.close(fd)
        with contextlib.suppress(redis.RedisError):
            self._plain.register_death()

    def _status(self) -> int:
        if self._runner.running():
            logger.error("worker stuck name=%s jobs=%s", self.name, [job.job_id for job in self._runner.running()])
            return 1
        return WORN_OUT if self._is_worn_out() and not self._stopping else 0

    # --- signals and orders

    def _listen_to_signals(self) -> None:
        for fd in (self._wake_fd, self._signalled_fd):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._signalled_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1):
            signal.signal(ignored, signal.SIG_IGN)  # meant for the supervisor
        for default in (signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(default, signal.SIG_DFL)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full of calls to wake up, or we are leaving
            os.write(self._signalled_fd, b"\0")

    def _obey(self, order: dict[str, Any]) -> None:
        if order["command"] == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)
        elif order["command"] in {"stop-job", "stop-execution"}:
            logger.info("worker name=%s asked to stop job=%s", self.name, order["job_id"])
            self._runner.stop_job(order["job_id"])

    # --- claim, start and wait

    def _claim(self, slot: int) -> Claimed | None:
        """The next job. After a lost reply the same execution id is asked for again, and the same job answered."""
        try:
            return self._ask(slot)
        except queues.AWAY as error:
            self._redis_is_away(error)
            return None

    def _claim_next(self, slot: int) -> Claimed | None:
        """For a thread that has ended a job. It insists on an answer: nobody else asks for what it may have claimed."""
        while not self._is_done():
            try:
                return self._ask(slot)
            except queues.AWAY as error:
                self._redis_is_away(error)
                time.sleep(queues.RETRY_SECONDS)
        return None  # if there was something, the supervisor hands it back

    def _ask(self, slot: int) -> Claimed | None:
        answer = transitions.claim(self.options.order.pick(), self.name, self._execution_ids[slot], slot=slot)
        self._redis_is_back()
        self._tell(answer.passed_over)
        if isinstance(answer, Claimed):
            self._execution_ids[slot] = _new_id()
            self._started += 1
            return answer
        self._open_queues = answer.open_queues
        return None

    def _tell(self, passed_over: Sequence[str]) -> None:
        for key in passed_over:
            if key not in self._told:
                logger.error("worker passed over key=%s: it is gone, or not what RQ keeps there", key)
        self._told = set(passed_over)  # a queue that is no list is met again each time

    def _show(self, claimed: Claimed | None = None) -> None:
        """What the others see of this worker."""
        jobs = [*([claimed] if claimed else []), *self._runner.running()]
        shown = ",".join(job.job_id for job in jobs)
        if shown != self._shown:
            self._shown = shown
            queue = jobs[0].queue_name if jobs else ""
            self.member.update(state="busy" if jobs else "idle", job=shown, queue=queue)

    def _wait(self, at_most_seconds: float) -> None:
        timeout = min(IDLE_SECONDS, at_most_seconds)
        if not self._redis_reachable or not self._runner.has_room():
            self._wait_awake(min(timeout, queues.RETRY_SECONDS))
            return
        try:
            self._doorbell.wait(timeout, queue_names=self._open_queues, wake_fd=self._wake_fd)
        except (*queues.AWAY, OSError) as error:
            self._redis_is_away(error)
        self._forget_calls()

    def _wait_awake(self, timeout: float) -> None:
        select.select([self._wake_fd], [], [], timeout)
        self._forget_calls()

    def _forget_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)

    def _is_worn_out(self) -> bool:
        options = self.options
        too_many = options.max_jobs > 0 and self._started >= options.max_jobs
        return too_many or (options.max_memory_bytes > 0 and self._started > 0 and self._has_grown())

    def _has_grown(self) -> bool:
        now = time.monotonic()
        if now >= self._measure_at:
            self._measure_at = now + 1.0
            self._rss_bytes = members.rss_bytes()
        return self._rss_bytes > self.options.max_memory_bytes

    def _redis_is_away(self, error: Exception) -> None:
        if self._redis_reachable:
            logger.warning("worker redis_reachable=False name=%s error=%r", self.name, error)
        self._redis_reachable = False

    def _redis_is_back(self) -> None:
        if not self._redis_reachable:
            logger.info("worker redis_reachable=True name=%s", self.name)
        self._redis_reachable = True


def _new_id() -> str:
    return uuid.uuid4().hex
