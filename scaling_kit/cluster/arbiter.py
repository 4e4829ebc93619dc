"""gunicorn's master, made to lose no request.

The stock one retires all old workers as soon as it has forked new ones, which then import the application for
seconds while nobody accepts; and it halts altogether when one worker cannot import. This one

- reloads (SIGHUP) a worker at a time: starts a new one, waits for its first heartbeat, retires an old one. A worker
  that cannot boot ends the reload, and the old ones go on serving;
- replaces the same way a worker that has served `max_requests`, or whose memory is above `--memory-max-mb`;
- writes how a reload went to a file beside the control socket: see `outcome`;
- once it has served, survives workers that fail to boot, and tries again after 1, 2, 4 ... 30 s;
- drains on SIGTERM if told to (`--drain`): serves on for a while with `/health/ready` answering 503.

Rests on parts of gunicorn 27 that are not its API: tests/cluster/test_arbiter.py holds them.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gunicorn.arbiter
from gunicorn.config import Setting, validate_pos_int
from gunicorn.errors import HaltServer

from scaling_kit.cluster import drain, memory, outcome, reports
from scaling_kit.cluster.outcome import Outcome

POLL_SECONDS = 0.05
MEMORY_LOOK_SECONDS = 2.0
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


class MemoryMaxMb(Setting):  # type: ignore[misc]
    name = "memory_max_mb"
    section = "Worker Processes"
    cli = ["--memory-max-mb"]
    meta = "INT"
    validator = validate_pos_int
    type = int
    default = 0
    desc = "Resident memory above which a worker is replaced; 0 = never."


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Of a worker that does not serve yet."""

    age: int
    since: float
    """Monotonic."""


@dataclass(kw_only=True)
class Replacement:
    """Under way: workers that are replaced one after another."""

    outdated: set[int]
    reload: int | None
    """Number of the reload; None if this is the recycling of one worker."""

    @property
    def name(self) -> str:
        return "recycling" if self.reload is None else "reload"


class Arbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """Run by `python -m scaling_kit.cluster.serve`."""

    WORKERS: dict[int, Any]
    num_workers: int

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.retiring: set[int] = set()
        """Workers that were told to stop."""
        self._booting: dict[int, Boot] = {}
        self._replacement: Replacement | None = None
        self._reloads = 0
        self._unbounded: set[int] = set()
        """Workers that were above the memory limit when they had booted: others would be, too."""
        self._look_at_memory_at = 0.0
        self._has_served = False
        self._failed_boots = 0
        self._spawn_after = 0.0
        self._stop_at: float | None = None
        self._workers_untouched = False

    def start(self) -> None:
        drain.share()
        reports.share()
        super().start()
        self._forget_outcome()  # of a master that was killed, and had our process id

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        self._forget_outcome()
        super().halt(reason, exit_status)

    def stop(self, graceful: bool = True) -> None:
        drain.begin()  # or the workers could not tell this from being retired
        super().stop(graceful)

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
        in_motion = self._booting or self._replacement is not None or self._stop_at is not None
        signals: list[int] = super().wait_for_signals(POLL_SECONDS if in_motion else timeout)
        return signals

    def reload(self) -> None:
        """Read the configuration again, and begin to replace the workers; `manage_workers` goes on with that."""
        self._reloads += 1
        self._tell(Outcome(number=self._reloads, state="running"))
        if not self._read_configuration():
            return
        self._replacement = Replacement(outdated=set(self.WORKERS) - self.retiring, reload=self._reloads)
        self.log.info("reload begun outdated=%s", len(self._replacement.outdated))

    def manage_workers(self) -> None:
        """Called after every signal and at least once a second: a step towards the workers there should be."""
        if self._workers_untouched:
            return
        self.retiring &= self.WORKERS.keys()
        self._look_at_booting()
        self._recycle()
        if self._replacement is None:
            self._keep_number()
        else:
            self._replace(self._replacement)

    def spawn_worker(self) -> int:
        if self._workers_untouched:
            return 0
        age = self.worker_age + 1
        reports.clear(age)
        try:
            pid: int = super().spawn_worker()
        except SystemExit as end:  # in the worker, at its end
            if end.code:
                reports.report_failure(age, end)
            raise
        self._booting[pid] = Boot(age=age, since=time.monotonic())
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
            reason = f"configuration: {reports.in_one_line(error)}"
            self._tell(Outcome(number=self._reloads, state="aborted", reason=reason))
            return False
        finally:
            self.WORKERS = workers
            self._workers_untouched = False
        if self.cfg.workers == previous.workers:
            self.num_workers = number  # to which TTIN and TTOU have brought it
        return True

    def _look_at_booting(self) -> None:
        now = time.monotonic()
        for pid, boot in list(self._booting.items()):
            worker = self.WORKERS.get(pid)
            if worker is None:
                self._boot_failed(pid, "exited", f"boot_failed: {reports.failure(boot.age) or 'the worker exited'}")
            elif worker.tmp.last_update() <= now:  # until its first heartbeat this is the wall clock, far ahead
                self._boot_succeeded(pid)
            elif now - boot.since > self.cfg.boot_timeout:
                self.kill_worker(pid, signal.SIGKILL)
                self._boot_failed(pid, "timeout", f"timeout: no heartbeat within {self.cfg.boot_timeout} s")

    def _boot_succeeded(self, pid: int) -> None:
        del self._booting[pid]
        self._has_served = True
        self._failed_boots = 0
        if 0 < self.cfg.memory_max_mb < (rss_mb := memory.resident_mb(pid)):
            self._unbounded.add(pid)
            self.log.error(
                "memory limit ignored pid=%s rss_mb=%.0f limit_mb=%s hint='a new worker is above it'",
                *(pid, rss_mb, self.cfg.memory_max_mb),
            )

    def _boot_failed(self, pid: int, kind: str, reason: str) -> None:
        del self._booting[pid]
        pause_seconds = PAUSES_SECONDS[min(self._failed_boots, len(PAUSES_SECONDS) - 1)]
        self._failed_boots += 1
        self._spawn_after = time.monotonic() + pause_seconds
        self.log.error("boot failed pid=%s reason=%s next_attempt_seconds=%s", pid, kind, pause_seconds)
        replacement = self._replacement
        if replacement is not None and pid not in replacement.outdated:
            self.log.error("%s aborted reason=boot_failed old_workers=%s", replacement.name, len(replacement.outdated))
            self._end_replacement(replacement, reason)

    def _recycle(self) -> None:
        """Begin to replace one worker that is due, unless something is under way already."""
        if self._replacement is not None or self._booting or self._stop_at is not None:
            return
        if time.monotonic() < self._spawn_after:
            return
        why = self._used_up() or self._too_large()
        if why is not None:
            pid, reason = why
            self._replacement = Replacement(outdated={pid}, reload=None)
            self.log.info("recycling begun pid=%s %s", pid, reason)

    def _used_up(self) -> tuple[int, str] | None:
        for pid in self._staying():
            worker = self.WORKERS[pid]
            served = reports.served(worker.age)
            if served >= worker.max_requests:
                return pid, f"reason=max_requests served={served} limit={worker.max_requests}"
        return None

    def _too_large(self) -> tuple[int, str] | None:
        limit_mb, now = self.cfg.memory_max_mb, time.monotonic()
        if not limit_mb or now < self._look_at_memory_at:
            return None
        self._look_at_memory_at = now + MEMORY_LOOK_SECONDS
        self._unbounded &= self.WORKERS.keys()
        sizes = {pid: memory.resident_mb(pid) for pid in self._staying() if pid not in self._unbounded}
        largest = max(sizes, key=sizes.__getitem__, default=None)
        if largest is None or sizes[largest] <= limit_mb:
            return None
        return largest, f"reason=memory rss_mb={sizes[largest]:.0f} limit_mb={limit_mb}"

    def _keep_number(self) -> None:
        staying = self._staying()
        if time.monotonic() >= self._spawn_after:
            for _ in range(self.num_workers - len(staying)):
                self.spawn_worker()
        surplus = max(0, len(staying) - self.num_workers)
        for pid in staying[:surplus] if not self._booting else []:  # or only those that boot might be left
            self.kill_worker(pid, signal.SIGTERM)

    def _replace(self, replacement: Replacement) -> None:
        outdated = replacement.outdated
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
            self.log.info("%s done workers=%s", replacement.name, self.num_workers)
            self._end_replacement(replacement, "")

    def _end_replacement(self, replacement: Replacement, aborted_because: str) -> None:
        self._replacement = None
        if replacement.reload == self._reloads:  # or a later one has failed meanwhile, and that is its outcome
            state: Any = "aborted" if aborted_because else "done"
            self._tell(Outcome(number=self._reloads, state=state, reason=aborted_because))

    def _tell(self, how_it_went: Outcome) -> None:
        try:
            outcome.write(self._outcome_file(), how_it_went)
        except OSError as error:
            self.log.warning("reload outcome not written error=%r", error)

    def _forget_outcome(self) -> None:
        try:
            self._outcome_file().unlink(missing_ok=True)
        except OSError as error:
            self.log.warning("reload outcome not removed error=%r", error)

    def _outcome_file(self) -> Path:
        return outcome.path(self._get_control_socket_path())

    def _staying(self) -> list[int]:
        """Workers that were not told to stop, the oldest first."""
        return sorted(self.WORKERS.keys() - self.retiring, key=lambda pid: self.WORKERS[pid].age)
