"""gunicorn's master, made to lose no request.

The stock one retires all old workers as soon as it has forked new ones, which then import the application for
seconds while nobody accepts; and it halts altogether when one worker cannot import. This one

- reloads (SIGHUP) a worker at a time: starts a new one, waits for its first heartbeat, retires an old one. A worker
  that cannot boot ends the reload, and the old ones go on serving;
- once it has served, survives workers that fail to boot, and tries again after 1, 2, 4 ... 30 s;
- drains on SIGTERM if told to (`--drain`): serves on for a while with `/health/ready` answering 503.

Rests on parts of gunicorn 27 that are not its API: tests/cluster/test_arbiter.py holds them.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import gunicorn.arbiter
from gunicorn.config import Setting, validate_pos_int
from gunicorn.errors import HaltServer

from scaling_kit.cluster import drain

POLL_SECONDS = 0.05
PAUSES_SECONDS = (1, 2, 4, 8, 16, 30)


class BootTimeout(Setting):  # type: ignore[misc]  # gunicorn has no types
    name = "boot_timeout"
    section = "Worker Processes"
    cli = ["--boot-timeout"]
    meta = "INT"
    validator = validate_pos_int
    type = int
    default = 60
    desc = "Seconds after which a worker that does not serve yet is killed."


class Drain(Setting):  # type: ignore[misc]
    name = "drain"
    section = "Worker Processes"
    cli = ["--drain"]
    meta = "SECONDS"
    validator = float
    type = float
    default = 0.0
    desc = "Seconds to serve on after SIGTERM while /health/ready answers 503."


class Arbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """Run by `python -m scaling_kit.cluster.serve`."""

    WORKERS: dict[int, Any]
    num_workers: int

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.retiring: set[int] = set()
        """Workers that were told to stop."""
        self._booting: dict[int, float] = {}
        """Workers that do not serve yet, and since when (monotonic)."""
        self._outdated: set[int] | None = None
        """Workers that the reload under way has still to replace."""
        self._has_served = False
        self._failed_boots = 0
        self._spawn_after = 0.0
        self._stop_at: float | None = None
        self._workers_untouched = False

    def start(self) -> None:
        drain.share()
        super().start()

    def handle_term(self) -> None:
        if self._stop_at is not None or not self.cfg.drain:
            super().handle_term()
        drain.begin()
        self._stop_at = time.monotonic() + self.cfg.drain
        self.log.info("drain begun seconds=%s", self.cfg.drain)

    def handle_usr2(self) -> None:
        self.log.warning("signal ignored signal=USR2 hint='HUP reloads without losing a request'")

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            raise StopIteration
        in_motion = self._booting or self._outdated is not None or self._stop_at is not None
        signals: list[int] = super().wait_for_signals(POLL_SECONDS if in_motion else timeout)
        return signals

    def reload(self) -> None:
        """Read the configuration again, and begin to replace the workers; `manage_workers` goes on with that."""
        if not self._read_configuration():
            return
        self._outdated = set(self.WORKERS) - self.retiring
        self.log.info("reload begun outdated=%s", len(self._outdated))

    def manage_workers(self) -> None:
        """Called after every signal and at least once a second: a step towards the workers there should be."""
        if self._workers_untouched:
            return
        self.retiring &= self.WORKERS.keys()
        self._look_at_booting()
        if self._outdated is None:
            self._keep_number()
        else:
            self._replace_outdated(self._outdated)

    def spawn_worker(self) -> int:
        if self._workers_untouched:
            return 0
        pid: int = super().spawn_worker()
        self._booting[pid] = time.monotonic()
        return pid

    def kill_worker(self, pid: int, sig: int) -> None:
        if sig == signal.SIGTERM:
            self.retiring.add(pid)
            self._booting.pop(pid, None)
        else:
            self.retiring.discard(pid)
        super().kill_worker(pid, sig)

    def reap_workers(self) -> None:
        """As the stock one, but a worker that fails to boot halts only a server that has never served."""
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                if not self._has_served:
                    raise
            else:
                return

    def _read_configuration(self) -> bool:
        previous, number = self.app.cfg, self.num_workers
        workers, self.WORKERS = self.WORKERS, {}  # the stock reload would wait for the old ones to end
        self._workers_untouched = True
        try:
            super().reload()
        except (Exception, SystemExit) as error:
            self.app.cfg = previous
            self.setup(self.app)
            self.num_workers = number
            self.log.error("reload aborted reason=configuration error=%r", error)  # noqa: TRY400
            return False
        finally:
            self.WORKERS = workers
            self._workers_untouched = False
        if self.cfg.workers == previous.workers:
            self.num_workers = number  # to which TTIN and TTOU have brought it
        return True

    def _look_at_booting(self) -> None:
        now = time.monotonic()
        for pid, since in list(self._booting.items()):
            worker = self.WORKERS.get(pid)
            if worker is None:
                self._boot_failed(pid, "exited")
            elif worker.tmp.last_update() <= now:  # until its first heartbeat this is the wall clock, far ahead
                self._boot_succeeded(pid)
            elif now - since > self.cfg.boot_timeout:
                self.kill_worker(pid, signal.SIGKILL)
                self._boot_failed(pid, "timeout")

    def _boot_succeeded(self, pid: int) -> None:
        del self._booting[pid]
        self._has_served = True
        self._failed_boots = 0

    def _boot_failed(self, pid: int, reason: str) -> None:
        del self._booting[pid]
        pause_seconds = PAUSES_SECONDS[min(self._failed_boots, len(PAUSES_SECONDS) - 1)]
        self._failed_boots += 1
        self._spawn_after = time.monotonic() + pause_seconds
        self.log.error("boot failed pid=%s reason=%s next_attempt_seconds=%s", pid, reason, pause_seconds)
        if self._outdated is not None and pid not in self._outdated:
            self.log.error("reload aborted reason=boot_failed old_workers=%s", len(self._outdated))
            self._outdated = None

    def _keep_number(self) -> None:
        staying = self._staying()
        if time.monotonic() >= self._spawn_after:
            for _ in range(self.num_workers - len(staying)):
                self.spawn_worker()
        surplus = max(0, len(staying) - self.num_workers)
        for pid in staying[:surplus] if not self._booting else []:  # or only those that boot might be left
            self.kill_worker(pid, signal.SIGTERM)

    def _replace_outdated(self, outdated: set[int]) -> None:
        if self._booting.keys() - outdated:
            return
        staying = self._staying()
        surplus = max(0, len(staying) - self.num_workers)
        for pid in [pid for pid in staying if pid in outdated][:surplus]:
            self.kill_worker(pid, signal.SIGTERM)
        outdated &= set(self._staying())
        if len(self._staying()) - len(outdated) < self.num_workers:
            self.spawn_worker()
        else:
            self._outdated = None
            self.log.info("reload done workers=%s", self.num_workers)

    def _staying(self) -> list[int]:
        """Workers that were not told to stop, the oldest first."""
        return sorted(self.WORKERS.keys() - self.retiring, key=lambda pid: self.WORKERS[pid].age)
