"""Run the processes of one host: start in order, restart with backoff, stop in reverse, leave no orphan.

    run([Process(name="valkey", command=[...], is_ready=...), Process(name="web", command=[...], after=["valkey"])])

Each child leads a session of its own. When the runner dies, even by kill -9, the kernel kills the children and the
guardian kills whatever is left of their sessions (workers of a gunicorn master, horses of an RQ worker).
Listening sockets belong to the runner and are handed to each start of their process, so that connections wait in the
backlog while it restarts.
"""

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
GUARD = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py"))]

PROBE_SECONDS = 0.05
FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 5.0
# A start that does not last this long, or never gets ready, has failed; so many in a row are a crash loop.
STABLE_SECONDS = 5.0
FAILED_STARTS = 5
LAST_WORDS_SECONDS = 0.1
LEFTOVER_SECONDS = 0.25


class RunnerError(Exception):
    """A process that the others cannot do without does not run. The message says which, and why."""


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
    """Whether everything is stopped when this one crash-loops, does not get ready, or (once) fails."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_seconds: float = 30.0


def run(
    processes: Sequence[Process],
    *,
    output: Output | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_change: Callable[[dict[str, Any]], None] = lambda _states: None,
) -> None:
    """Run all until SIGINT, SIGTERM or SIGHUP; return when the last has ended. A second signal kills them.

    `on_ready` is called once, when every process is ready; `on_change` with name → {"pid", "state", "starts"} at
    every change. Raises `RunnerError`, after everything has been stopped.
    """
    asyncio.run(Runner(processes, output=output or Output(), on_ready=on_ready, on_change=on_change).run())


class Runner:
    """The event loop's view of `run`: one `Child` per process."""

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        output: Output,
        on_ready: Callable[[], None],
        on_change: Callable[[dict[str, Any]], None],
    ) -> None:
        self.output = output
        self._on_ready = on_ready
        self._on_change = on_change
        self._guard = Guard()
        self._told_to_stop = asyncio.Event()
        self.children = {process.name: Child(process, self) for process in processes}

    async def run(self) -> None:
        self._listen_to_signals()
        self._guard.start()
        try:
            await self._keep_running()
        except ExceptionGroup as failures:
            self.output.event("stopping reason=%r", str(failures.exceptions[0]))
            raise failures.exceptions[0] from None
        finally:
            await asyncio.gather(*(self._stop_after_dependents(child) for child in self.children.values()))
            self._guard.stop()

    def changed(self) -> None:
        try:
            self._on_change({child.process.name: child.facts() for child in self.children.values()})
        except OSError as error:  # a full disk, say: no reason to stop anything
            self.output.event("state not written error=%r", str(error))

    def session_begins(self, session: int) -> None:
        self._guard.watch(session)

    def session_ends(self, session: int) -> None:
        self._guard.forget(session)

    async def _keep_running(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._keep_running_one(child)) for child in self.children.values()]
            running.append(tasks.create_task(self._announce()))
            await self._told_to_stop.wait()
            for task in running:
                task.cancel()

    async def _keep_running_one(self, child: Child) -> None:
        for name in child.process.after:
            await self.children[name].ready.wait()
        await child.keep_running()

    async def _announce(self) -> None:
        for child in self.children.values():
            await child.ready.wait()
        self._on_ready()

    async def _stop_after_dependents(self, child: Child) -> None:
        dependents = [other for other in self.children.values() if child.process.name in other.process.after]
        await asyncio.gather(*(dependent.stopped.wait() for dependent in dependents))
        await child.stop()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._tell_to_stop, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def _tell_to_stop(self, number: signal.Signals) -> None:
        if self._told_to_stop.is_set():
            for child in self.children.values():
                child.kill()
            return
        self.output.event("stopping signal=%s", number.name)
        self._told_to_stop.set()

    def _reap(self) -> None:
        self._guard.restart_if_dead()
        for child in self.children.values():
            child.reap()


class Child:
    """One process as it is now, over all its starts."""

    def __init__(self, process: Process, runner: Runner) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()
        self._runner = runner
        self._output = runner.output
        self._popen: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._sessions: set[int] = set()
        self._state = "waiting"
        self._starts = 0
        self._failed_starts = 0
        self._background: set[asyncio.Task[None]] = set()
        self._relay: asyncio.Task[None]

    def facts(self) -> dict[str, Any]:
        pid = self._popen.pid if self._popen and not self._ended.is_set() else None
        return {"pid": pid, "state": self._state, "starts": self._starts}

    async def keep_running(self) -> None:
        """Start, and start again, until cancelled. Raises `RunnerError` if a required process cannot be kept."""
        while True:
            started_at = time.monotonic()
            was_ready = await self._run_to_its_end()
            if self.process.once:
                return self._finish()
            lasted = was_ready and time.monotonic() - started_at >= STABLE_SECONDS
            self._failed_starts = 0 if lasted else self._failed_starts + 1
            self._change("restarting", status=self._status())
            if self._failed_starts >= FAILED_STARTS:
                self._give_up(
                    f"ended {FAILED_STARTS} times in a row soon after its start, at last with {self._status()}"
                )
            await asyncio.sleep(self._backoff_seconds())

    async def stop(self) -> None:
        """Ask it to stop; kill it, and what is left of its session, when it does not in time."""
        if self._popen and not self._ended.is_set():
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

    async def _run_to_its_end(self) -> bool:
        """Start once and wait for the end; return whether it had become ready."""
        self._start()
        readiness = asyncio.create_task(self._become_ready())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([readiness, ended], return_when=asyncio.FIRST_COMPLETED)
            if readiness.done():
                readiness.result()  # raises RunnerError if it was not ready in time
            await ended
            await asyncio.wait([self._relay], timeout=LAST_WORDS_SECONDS)
            self._output.show_kept(self.process.name)
            return readiness.done()
        finally:
            readiness.cancel()
            ended.cancel()

    def _start(self) -> None:
        reading, writing = os.pipe()
        held = [held.fileno() for held in self.process.sockets]
        descriptors = ",".join(map(str, held))
        program, *arguments = self.process.command
        self._ended = asyncio.Event()
        self._popen = subprocess.Popen(
            [
                *LAUNCH,
                str(os.getpid()),
                self.process.user or "",
                descriptors,
                shutil.which(program) or program,
                *arguments,
            ],
            env={**os.environ, **self.process.environment},
            cwd=self.process.folder,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            pass_fds=held,
            start_new_session=True,
        )
        os.close(writing)
        self._relay = self._in_background(self._output.relay(self.process.name, reading, keep=self.process.quiet))
        self._in_background(self._look_after_session(self._popen.pid, self._ended))
        self._starts += 1
        self._change("starting")

    async def _become_ready(self) -> None:
        try:
            async with asyncio.timeout(self.process.ready_within_seconds):
                await (self._ended.wait() if self.process.once else self._probe())
        except TimeoutError:
            self._output.show_kept(self.process.name)
            self._change("unready")
            self._give_up(f"not ready within {self.process.ready_within_seconds:.0f} s")
            return
        if not self.process.once:
            self._change("ready")
            self.ready.set()

    async def _probe(self) -> None:
        while self.process.is_ready and not await asyncio.to_thread(self.process.is_ready):
            await asyncio.sleep(PROBE_SECONDS)

    def _finish(self) -> None:
        if self._popen and self._popen.returncode:
            self._give_up(f"ended with {self._status()}")
        self._change("done")
        self.ready.set()

    def _give_up(self, reason: str) -> None:
        if self.process.required:
            raise RunnerError(f"{self.process.name}: {reason}; its last lines are above.")
        self._output.event("failed name=%s reason=%r", self.process.name, reason)

    def _backoff_seconds(self) -> float:
        doublings = min(max(self._failed_starts - 1, 0), 10)
        return min(FIRST_BACKOFF_SECONDS * float(2**doublings), LAST_BACKOFF_SECONDS)

    async def _look_after_session(self, session: int, ended: asyncio.Event) -> None:
        """When the leader has ended, see that the rest does: workers of a killed master finish what they are doing.

        Only the leader's process group is told, once: a job that runs in a group of its own (an RQ horse) is
        waited for, and a second SIGTERM would mean "at once" to its worker.
        """
        self._sessions.add(session)
        self._runner.session_begins(session)
        await ended.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGTERM)
        deadline = time.monotonic() + self.process.stop_within_seconds
        while guardian.exists(session):
            if time.monotonic() > deadline:
                guardian.send(signal.SIGKILL, {session})
            await asyncio.sleep(LEFTOVER_SECONDS)
        self._sessions.discard(session)
        self._runner.session_ends(session)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen and not self._ended.is_set():
            self._popen.send_signal(number)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _change(self, state: str, **facts: Any) -> None:
        self._state = state
        known = "".join(f" {name}={value!r}" for name, value in facts.items())
        if state != "stopped":
            self._output.event("%s name=%s pid=%s%s", state, self.process.name, self._popen and self._popen.pid, known)
        self._runner.changed()

    def _status(self) -> str:
        """The exit status in words."""
        code = self._popen.returncode if self._popen else 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


class Guard:
    """The guardian as the runner sees it (see guardian.py)."""

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._popen: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._popen = subprocess.Popen(GUARD, stdin=subprocess.PIPE, text=True, start_new_session=True)
        for session in self._sessions:
            self._tell(f"+{session}")

    def restart_if_dead(self) -> None:
        if self._popen and self._popen.poll() is not None:
            self.start()

    def watch(self, session: int) -> None:
        self._sessions.add(session)
        self._tell(f"+{session}")

    def forget(self, session: int) -> None:
        self._sessions.discard(session)
        self._tell(f"-{session}")

    def stop(self) -> None:
        if popen := self._popen:
            self._popen = None
            popen.communicate()

    def _tell(self, line: str) -> None:
        if self._popen and self._popen.stdin:
            with suppress(BrokenPipeError):  # it is being restarted, and is then told everything
                self._popen.stdin.write(line + "\n")
                self._popen.stdin.flush()
