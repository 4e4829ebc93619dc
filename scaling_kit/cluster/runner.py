"""Run the processes of one host: start in order, restart with backoff, stop in reverse, leave no orphan.

    run([Process(name="valkey", command=[...], is_ready=...), Process(name="web", command=[...], after=["valkey"])])

Each child leads a session of its own. When the runner dies, even by kill -9, the kernel kills the children and the
guardian kills whatever is left of their sessions (workers of a gunicorn master, horses of an RQ worker).
Listening sockets belong to the runner and are handed to each start of their process, so that connections wait in the
backlog while it restarts.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from scaling_kit.cluster import control, limits, orders
from scaling_kit.cluster.child import Child, Process, RunnerError
from scaling_kit.cluster.guardian import Guard
from scaling_kit.cluster.output import Output
from scaling_kit.cluster.verbs import Verbs

__all__ = ["Process", "RunnerError", "run"]


def run(
    processes: Sequence[Process],
    *,
    output: Output | None = None,
    control_socket: Path | None = None,
    as_member: bool = False,
    memory_look_seconds: float = 10.0,
    on_ready: Callable[[], None] = lambda: None,
    on_change: Callable[[dict[str, Any]], None] = lambda _states: None,
) -> None:
    """Run all until SIGINT, SIGTERM or SIGHUP; return when the last has ended. A second signal kills them.

    `on_ready` is called once, when every process is ready; `on_change` with name → {"pid", "state", "starts"} at
    every change. Takes orders at `control_socket` (see control.py). Raises `RunnerError`, after everything has
    been stopped. `as_member`: registers in Redis as others do, and takes orders there too (see orders.py).
    """
    runner = Runner(processes, output=output or Output(), on_ready=on_ready, on_change=on_change)
    asyncio.run(runner.run(control_socket, as_member=as_member, memory_look_seconds=memory_look_seconds))


class Runner:
    """The event loop's view of `run`: one `Child` per process.

    Every child has a task that keeps it running; that of a stopped one has been cancelled.
    """

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
        self._keeps_none = False
        self._tasks = asyncio.TaskGroup()
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self.children = {process.name: self._child(process) for process in processes}

    async def run(self, control_socket: Path | None, *, as_member: bool, memory_look_seconds: float) -> None:
        self._listen_to_signals()
        self._guard.start()
        try:
            async with AsyncExitStack() as doors:
                verbs = Verbs(self)
                await doors.enter_async_context(control.serving(control_socket, verbs.answer, self.output))
                await doors.enter_async_context(limits.kept(self, verbs, look_seconds=memory_look_seconds))
                if as_member:
                    await doors.enter_async_context(orders.taken(verbs.answer, control_socket=control_socket))
                await self._keep_running()
        except ExceptionGroup as failures:
            self.output.event("stopping reason=%r", str(failures.exceptions[0]))
            raise failures.exceptions[0] from None
        finally:
            await asyncio.gather(*(self._stop_after_dependents(child) for child in self.children.values()))
            self._guard.stop()

    @property
    def is_stopping(self) -> bool:
        return self._told_to_stop.is_set() or self._keeps_none

    def is_kept(self, child: Child) -> bool:
        """Is it to run? Otherwise it was stopped, or ran once and has ended."""
        task = self._keeping.get(child.name)
        return task is not None and not task.done()

    def add(self, process: Process) -> Child:
        self.children[process.name] = child = self._child(process)
        self._keep(child)
        return child

    async def remove(self, child: Child) -> None:
        await self.stop(child)
        del self.children[child.name]
        self._write_state()

    def start(self, child: Child) -> None:
        child.begin_again()
        self._keep(child)

    async def stop(self, child: Child) -> None:
        """Stop it and leave it so. Its listening sockets stay open."""
        if keeping := self._keeping.pop(child.name, None):
            keeping.cancel()
        await child.stop()

    def stop_all(self, reason: str) -> None:
        """What a signal does: `run` returns when all have ended."""
        self.output.event("stopping %s", reason)
        self._told_to_stop.set()

    def _child(self, process: Process) -> Child:
        return Child(process, output=self.output, guard=self._guard, on_change=self._write_state)

    def _keep(self, child: Child) -> None:
        if self.is_stopping:  # an order that was under way
            return
        self._keeping[child.name] = self._tasks.create_task(self._keep_running_one(child))

    async def _keep_running(self) -> None:
        try:
            async with self._tasks:
                for child in list(self.children.values()):
                    self._keep(child)
                announcing = self._tasks.create_task(self._announce())
                await self._told_to_stop.wait()
                for task in (announcing, *self._keeping.values()):
                    task.cancel()
        finally:
            self._keeps_none = True

    async def _keep_running_one(self, child: Child) -> None:
        for name in child.process.after:
            if name in self.children:  # a group may have been made smaller since
                await self.children[name].ready.wait()
        await child.keep_running()

    async def _announce(self) -> None:
        for child in list(self.children.values()):
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
        self.stop_all(f"signal={number.name}")

    def _reap(self) -> None:
        self._guard.restart_if_dead()
        for child in self.children.values():
            child.reap()

    def _write_state(self) -> None:
        try:
            self._on_change({child.process.name: child.facts() for child in self.children.values()})
        except OSError as error:  # a full disk, say: no reason to stop anything
            self.output.event("state not written error=%r", str(error))
