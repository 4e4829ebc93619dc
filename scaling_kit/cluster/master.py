"""A process with workers of its own (a gunicorn master, the supervisor of `runworkers`), commanded by signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from scaling_kit.cluster import sessions
from scaling_kit.cluster.child import Child, Workers
from scaling_kit.cluster.output import Output

POLL_SECONDS = 0.05
# For a process that has just been started to listen to signals, and to take one.
TAKEN_WITHIN_SECONDS = 30.0
GROWN_WITHIN_SECONDS = 10.0


class ReloadError(Exception):
    """A reload came to nothing. The message says why."""


class GoneError(Exception):
    """The process ended before it could be told."""


async def scale(child: Child, wanted: int) -> None:
    """Have so many workers, now and after each start of the process. More are there on return; fewer will be."""
    change = wanted - child.count
    child.count = wanted  # first: if it ends under our signals, its successor has as many as it should
    pid = child.pid
    if pid is None:
        return
    before = sessions.children(pid)
    try:
        for _ in range(abs(change)):
            await tell(pid, signal.SIGTTIN if change > 0 else signal.SIGTTOU)
    except GoneError:
        return
    await _wait(lambda: len(sessions.children(pid) - before) >= change, GROWN_WITHIN_SECONDS)


async def reload(child: Child, output: Output) -> str:
    """Replace the workers by new ones, with new code; return what was done. Raises `ReloadError`."""
    workers, pid = child.process.workers, child.pid
    if workers is None or pid is None:
        raise ReloadError(f"it does not run: its state is {child.state!r}")
    reloading = Reload(child, workers, pid, output)
    try:
        await tell(pid, signal.SIGHUP)
    except GoneError as error:
        raise ReloadError(str(error)) from error
    await _wait(reloading.is_over, reloading.within_seconds)
    return reloading.result()


async def tell(pid: int, number: signal.Signals) -> None:
    """Send a signal as soon as it is listened to, and return when it was taken: the kernel merges equal ones."""
    if not await _wait(lambda: sessions.catches(pid, number), TAKEN_WITHIN_SECONDS):
        raise GoneError(f"pid {pid} does not listen to {number.name}")
    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise GoneError(f"pid {pid} has ended") from error
    await asyncio.sleep(POLL_SECONDS)  # for its handler, which comes a moment after the kernel's
    await _wait(lambda: not sessions.is_pending(pid, number), TAKEN_WITHIN_SECONDS)


class Reload:
    """A reload under way, as far as one can see from outside."""

    def __init__(self, child: Child, workers: Workers, pid: int, output: Output) -> None:
        self._child = child
        self._workers = workers
        self._pid = pid
        self._output = output
        self.within_seconds = workers.reload_seconds * max(child.count, 1)
        self._old = sessions.children(pid)
        self._last_line = output.number
        self._last_outcome = self._outcome().get("number", 0)

    def is_over(self) -> bool:
        if self._child.pid != self._pid or self._complaint():
            return True
        outcome = self._new_outcome()
        return outcome["state"] != "running" if outcome else not self._left()

    def result(self) -> str:
        """What was done. Raises `ReloadError`."""
        outcome, complaint, left = self._new_outcome(), self._complaint(), self._left()
        if self._child.pid != self._pid:
            raise ReloadError("it ended meanwhile, and is being started again")
        if outcome.get("state") == "aborted":
            raise ReloadError(f"the old workers stay: {outcome['reason']}")
        if complaint:
            raise ReloadError(f"the old workers stay: {complaint}")
        # Without a word of it, one that has replaced none is not over. With one, all may still finish their requests.
        is_unfinished = outcome["state"] == "running" if outcome else bool(left) and left == self._old
        if is_unfinished:
            raise ReloadError(f"not over within {self.within_seconds:.0f} s, see its log")
        still = f", {len(left)} old ones still finish their work" if left else ""
        return f"reloaded, {self._child.count} new workers{still}"

    def _left(self) -> frozenset[int]:
        return self._old & sessions.children(self._pid)

    def _complaint(self) -> str:
        lines = self._output.last_lines([self._child.name], limit=1000, after=self._last_line)
        return next((line.text for line in lines if self._workers.reload_failed in line.text), "")

    def _new_outcome(self) -> dict[str, Any]:
        outcome = self._outcome()
        return outcome if outcome.get("number", 0) > self._last_outcome else {}

    def _outcome(self) -> dict[str, Any]:
        if self._workers.reload_outcome is None:
            return {}
        try:
            found: dict[str, Any] = json.loads(self._workers.reload_outcome(self._pid).read_text())
        except (OSError, ValueError):
            return {}
        return found


async def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
