"""One process of the runner: what to run, and its life over all its starts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import Any

from scaling_kit.cluster import guardian
from scaling_kit.cluster.output import Output

LAUNCH = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]

PROBE_SECONDS = 0.05
LATE_PROBE_SECONDS = 0.5
LAST_WORDS_SECONDS = 0.1
SUCCESS = "status 0"
LEFTOVER_SECONDS = 0.25


class RunnerError(Exception):
    """A process that the others cannot do without does not run. The message says which, and why."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Processes that a process has of its own: TTIN and TTOU add and remove one, HUP replaces them with new code."""

    count: int
    option: str
    """Tells the process at its start how many."""
    reload_failed: str
    """What its output says when a reload came to nothing."""
    reload_seconds: float
    """Within which a reload replaces one worker."""
    reload_outcome: Callable[[int], Path] | None = None
    """By its pid: the file that tells how its last reload ended. Without one, a reload is over when all are new."""


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """How a process is started again when it has ended: after `first_seconds`, twice that, ... `last_seconds`."""

    first_seconds: float = 0.1
    last_seconds: float = 5.0
    lasting_seconds: float = 5.0
    """A start that does not last this long, or never gets ready, has failed."""
    failed_starts: int = 5
    """So many in a row are a crash loop."""

    def pause_seconds(self, failed_starts: int) -> float:
        doublings = min(max(failed_starts - 1, 0), 10)
        return min(self.first_seconds * float(2**doublings), self.last_seconds)


@dataclass(frozen=True, kw_only=True)
class Process:
    """What to run. `run` keeps it running until the runner is told to stop."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside the runner's own."""
    user: str | None = None
    """The system user to become; needs root."""
    folder: Path | None = None
    sockets: Sequence[socket] = ()
    """Listening sockets the process inherits as 3, 4, ..., with LISTEN_FDS and LISTEN_PID set."""
    is_ready: Callable[[], bool] | None = None
    """May block for some seconds: it is called in a thread. Without one, a process is ready when it has started."""
    ready_within_seconds: float = 60.0
    after: Sequence[str] = ()
    """Names of the processes that must be ready before this one starts, and that stop after it."""
    once: bool = False
    """Runs to its end, and is ready when it ended with status 0. Never started again."""
    quiet: bool = False
    """Its output is kept back; the last lines are shown when it ends by itself or does not get ready."""
    required: bool = True
    """Whether everything is stopped when this one crash-loops, does not get ready, or (once) fails. One that has
    lasted before is tried again instead."""
    restarts: Restarts = Restarts()
    memory_max_mb: int = 0
    """Resident memory of it and its own processes above which the runner restarts it; 0 = never."""
    workers: Workers | None = None
    group: str = ""
    """Of processes that are all alike: the group can be made larger and smaller."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_seconds: float = 30.0


class Child:
    """One process as it is now, over all its starts."""

    def __init__(
        self, process: Process, *, output: Output, guard: guardian.Guard, on_change: Callable[[], None]
    ) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()
        self.count = process.workers.count if process.workers else 0
        """How many workers it is to have: now, and when it is started again."""
        self.failed_starts = 0
        self.last_end = ""
        """How it ended last, in words."""
        self._output = output
        self._guard = guard
        self._on_change = on_change
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._sessions: set[int] = set()
        self._state = "waiting"
        self._since = time.time()
        self._starts = 0
        self._started_at = 0.0
        self._has_lasted = False
        self._background: set[asyncio.Task[None]] = set()
        self._relay: asyncio.Task[None]

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen and not self._ended.is_set() else None

    @property
    def state(self) -> str:
        return self._state

    @property
    def sessions(self) -> frozenset[int]:
        """Those it leads or has led, and that are not empty yet."""
        return frozenset(self._sessions)

    @property
    def command(self) -> list[str]:
        workers = self.process.workers
        return [*self.process.command, *([workers.option, str(self.count)] if workers else [])]

    def facts(self) -> dict[str, Any]:
        return {"pid": self.pid, "state": self._state, "starts": self._starts, "since": self._since}

    def reset(self) -> None:
        """Count its starts anew."""
        self._starts = 1 if self.pid else 0

    def begin_again(self) -> None:
        """Forget that it was stopped, for another `keep_running`."""
        self.stopped.clear()
        self.ready.clear()
        self.failed_starts = 0
        self._state = "waiting"

    async def keep_running(self) -> None:
        """Start, and start again, until cancelled. Raises `RunnerError` if a required process cannot be kept."""
        while True:
            self.last_end = await self._run_to_its_end()
            if self.process.once:
                return self._finish()
            self.failed_starts = 0 if self._lasted() else self.failed_starts + 1
            self._change("restarting", status=self.last_end)
            restarts = self.process.restarts
            if self.failed_starts == restarts.failed_starts:
                self._give_up(
                    f"ended {self.failed_starts} times in a row soon after its start, at last with {self.last_end}"
                )
            await asyncio.sleep(restarts.pause_seconds(self.failed_starts))

    async def stop(self) -> None:
        """Ask it to stop; kill it, and what is left of its session, when it does not in time."""
        if self._popen and not self._ended.is_set():
            self._lasted()
            self._change("stopping")
            self._signal(self.process.stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self.process.stop_within_seconds)
        for session in self._sessions:
            guardian.send(signal.SIGKILL, {session})
        if self._background:  # the last lines of its output
            await asyncio.wait(self._background, timeout=10 * LAST_WORDS_SECONDS)
        self._change("stopped")
        self.stopped.set()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def reap(self) -> None:
        if self._popen and self._popen.poll() is not None:
            self._ended.set()

    async def _run_to_its_end(self) -> str:
        """Start once and wait for the end, which is returned in words."""
        try:
            self._start()
        except OSError as error:  # no memory, too many processes, no such folder: it may be possible later
            return f"no start: {error}"
        readiness = asyncio.create_task(self._end_in_time() if self.process.once else self._become_ready())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([readiness, ended], return_when=asyncio.FIRST_COMPLETED)
            if readiness.done():
                readiness.result()  # raises RunnerError if it was not ready in time
            await ended
            await asyncio.wait([self._relay], timeout=LAST_WORDS_SECONDS)
            self._output.show_kept(self.process.name)
            return self._status()
        finally:
            readiness.cancel()
            ended.cancel()

    def _start(self) -> None:
        """Raises OSError."""
        self._ended = asyncio.Event()
        self.ready.clear()
        self._started_at = time.monotonic()
        self._popen = None
        reading, writing = os.pipe()
        try:
            self._popen = self._spawn(writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._relay = self._in_background(self._output.relay(self.process.name, reading, keep=self.process.quiet))
        self._in_background(self._look_after_session(self._popen.pid, self._ended))
        self._starts += 1
        self._change("starting")

    def _spawn(self, output: int) -> subprocess.Popen[bytes]:
        program, *arguments = self.command
        program = shutil.which(program) or program
        held = [held.fileno() for held in self.process.sockets]
        descriptors = ",".join(map(str, held))
        return subprocess.Popen(
            [*LAUNCH, str(os.getpid()), self.process.user or "", descriptors, program, *arguments],
            env={**os.environ, **self.process.environment, "CLUSTER_PROCESS": self.name},
            cwd=self.process.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=held,
            start_new_session=True,
        )

    async def _become_ready(self) -> None:
        try:
            async with asyncio.timeout(self.process.ready_within_seconds):
                await self._probe(PROBE_SECONDS)
        except TimeoutError:
            self._not_in_time()
            await self._probe(LATE_PROBE_SECONDS)
        self._change("ready")
        self.ready.set()

    async def _end_in_time(self) -> None:
        try:
            async with asyncio.timeout(self.process.ready_within_seconds):
                await self._ended.wait()
        except TimeoutError:
            self._not_in_time()

    def _not_in_time(self) -> None:
        self._output.show_kept(self.process.name)
        self._change("unready")
        self._give_up(f"not ready within {self.process.ready_within_seconds:.0f} s")

    async def _probe(self, every_seconds: float) -> None:
        while self.process.is_ready and not await asyncio.to_thread(self.process.is_ready):
            await asyncio.sleep(every_seconds)

    def _finish(self) -> None:
        if self.last_end != SUCCESS:
            self._give_up(f"ended with {self.last_end}")
        self._has_lasted = True
        self._change("done")
        self.ready.set()

    def _lasted(self) -> bool:
        """Did, or does, this start last?"""
        lasts = self.ready.is_set() and time.monotonic() - self._started_at >= self.process.restarts.lasting_seconds
        self._has_lasted = self._has_lasted or lasts
        return lasts

    def _give_up(self, reason: str) -> None:
        if self.process.required and not self._has_lasted:
            raise RunnerError(f"{self.process.name}: {reason}; its last lines are above.")
        self._output.event("failed name=%s reason=%r", self.process.name, reason)

    async def _look_after_session(self, session: int, ended: asyncio.Event) -> None:
        """When the leader has ended, see that the rest does: workers of a killed master finish what they are doing.

        Only the leader's process group is told, once: a job that runs in a group of its own (an RQ horse) is
        waited for, and a second SIGTERM would mean "at once" to its worker.
        """
        self._sessions.add(session)
        self._guard.watch(session)
        await ended.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGTERM)
        deadline = time.monotonic() + self.process.stop_within_seconds
        while guardian.exists(session):
            if time.monotonic() > deadline:
                guardian.send(signal.SIGKILL, {session})
            await asyncio.sleep(LEFTOVER_SECONDS)
        self._sessions.discard(session)
        self._guard.forget(session)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen and not self._ended.is_set():
            self._popen.send_signal(number)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _change(self, state: str, **facts: Any) -> None:
        self._state, self._since = state, time.time()
        known = "".join(f" {name}={value!r}" for name, value in facts.items())
        if state != "stopped":
            self._output.event("%s name=%s pid=%s%s", state, self.process.name, self._popen and self._popen.pid, known)
        self._on_change()

    def _status(self) -> str:
        """The exit status in words."""
        code = self._popen.returncode if self._popen else 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
