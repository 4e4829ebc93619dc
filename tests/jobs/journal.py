"""What jobs did, in a file: it outlives the Redis and the process that are killed."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(kw_only=True)
class Execution:
    """One run of a job. Times are `time.monotonic()`, which all processes of a machine share on Linux."""

    name: str
    pid: int
    started_at: float
    ended_at: float | None = None

    def spans(self, moment: float) -> bool:
        return self.started_at <= moment and (self.ended_at is None or moment <= self.ended_at)


class Journal:
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.touch()

    def note(self, event: str, name: str) -> None:
        """Append a line, in one write: other processes do so too."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, f"{time.monotonic():.6f} {event} {name} {os.getpid()}\n".encode())
        os.close(descriptor)

    def executions(self, name: str = "") -> list[Execution]:
        """All, or those of one job, in the order in which they started."""
        found: list[Execution] = []
        for moment, event, job, pid in self._lines():
            if event == "started":
                found.append(Execution(name=job, pid=int(pid), started_at=float(moment)))
            elif event == "ended":
                _open(found, job, int(pid)).ended_at = float(moment)
        return [execution for execution in found if name in {"", execution.name}]

    def ended(self) -> set[str]:
        return {execution.name for execution in self.executions() if execution.ended_at is not None}

    def seen_beside_itself(self) -> list[str]:
        return [name for _, event, name, _ in self._lines() if event == "beside-itself"]

    def look_beside(self, name: str) -> None:
        """Note it if the process of an earlier execution, which has not ended, still lives."""
        earlier = [run.pid for run in self.executions(name) if run.ended_at is None and run.pid != os.getpid()]
        deadline = time.monotonic() + 0.3  # one that was killed this moment may need as long to be gone
        while any(map(_lives, earlier)):
            if time.monotonic() > deadline:
                self.note("beside-itself", name)
                return
            time.sleep(0.01)

    def _lines(self) -> Iterable[tuple[str, str, str, str]]:
        for line in self.path.read_text().splitlines():
            moment, event, name, pid = line.split()
            yield moment, event, name, pid


def _open(found: list[Execution], name: str, pid: int) -> Execution:
    return next(run for run in reversed(found) if (run.name, run.pid, run.ended_at) == (name, pid, None))


def _lives(pid: int) -> bool:
    with_pid = psutil.pid_exists(pid)
    try:
        return with_pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
