"""Real `runworkers` processes for the tests, and workers in the test's own process."""

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling_kit.jobs import queues
from scaling_kit.jobs.order import Order
from scaling_kit.jobs.worker import Worker, WorkerOptions
from scaling_kit.members import fetch_members
from scaling_kit.testing import die_with_parent, wait_until

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGQUIT, signal.SIGCHLD)


class Fleet:
    """`runworkers` of one test: as many supervisors as it starts, all ended with it."""

    def __init__(self, *, key_prefix: str, folder: Path) -> None:
        self.folder = folder
        self.key_prefix = key_prefix
        self.environment = {**os.environ, "TEST_KEY_PREFIX": key_prefix}
        self.processes: list[subprocess.Popen[bytes]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator["Fleet"]:
        try:
            yield self
        finally:
            for process in self.processes:
                process.kill()
                process.wait()

    def start(self, *arguments: str, wait: bool = True, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", "runworkers", "--settings", "tests.jobs.settings", *arguments]
        if "--queues" not in arguments:
            command += ["--queues", ",".join(f"{self.key_prefix}-{name}" for name in ("high", "default", "low"))]
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command,
                env={**self.environment, **environment},
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.processes.append(process)
        if wait:
            wait_until(lambda: self.workers_of(process) or process.poll() is not None, what="a worker is there")
            assert process.poll() is None, self.log(process)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"{self.processes.index(process)}.log").read_text()

    def stop(self, process: subprocess.Popen[bytes]) -> str:
        """End a supervisor gracefully; return its log."""
        process.terminate()
        assert process.wait(timeout=10) == 0, self.log(process)
        return self.log(process)

    def workers_of(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The pids of a supervisor's workers that can take jobs."""
        children = {int(pid) for pid in _children(process.pid)}
        return sorted(int(member["pid"]) for member in fetch_members() if int(member["pid"]) in children)

    def worker_pids(self, count: int) -> list[int]:
        """The workers of the first supervisor, as soon as there are so many."""
        found: list[int] = wait_until(
            lambda: len(pids := self.workers_of(self.processes[0])) == count and pids, what=f"{count} workers"
        )
        return found


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@contextlib.contextmanager
def in_process_worker(queue_names: Sequence[str], **options: Any) -> Iterator[Worker]:
    """A worker that ends when the queues are empty. Puts the test process's signal handlers back."""
    handlers = {signum: signal.getsignal(signum) for signum in (*SIGNALS, signal.SIGALRM, signal.SIGUSR1)}
    wanted = WorkerOptions(order=Order(queue_names=tuple(queue_names)), **{"mode": "simple", "burst": True, **options})
    worker = Worker(wanted, name=f"test-{os.urandom(4).hex()}")
    try:
        with warnings.catch_warnings():
            # Forking for a job while the heartbeat thread runs is what a worker does.
            warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
            yield worker
    finally:
        signal.set_wakeup_fd(-1)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def delete_queues(names: Sequence[str]) -> None:
    """Delete what a test left in its queues."""
    for name in names:
        redis = queues.connection(name)
        for pattern in (f"rq:*{name}*", "rq:worker:test-*"):
            for found in redis.scan_iter(pattern):
                redis.delete(found)
