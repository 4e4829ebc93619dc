"""The processes of a race: the server they share, a contestant's worker with all its children, and its producer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from scaling_kit.testing import die_with_parent

ROOT = Path(__file__).parents[2]
END_SECONDS = 15
TAIL = 1000  # characters of a log that are shown


class EndedError(Exception):
    """A process of a contestant has ended by itself."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a server has spent since its start, or between two such moments."""

    cpu_seconds: float
    reads: int
    commands: int

    def since(self, earlier: Spent) -> Spent:
        """The difference, less the asking for it."""
        return Spent(
            cpu_seconds=self.cpu_seconds - earlier.cpu_seconds,
            reads=self.reads - earlier.reads - 1,
            commands=self.commands - earlier.commands - 1,
        )


def spent(server: redis.Redis) -> Spent:
    """CPU includes what its scripts use. `commands` are all it executed, those within scripts too; `reads` are what
    it read from sockets: one for each round trip of a client, a pipeline counting once (per 16 kB)."""
    info: dict[str, Any] = server.info()
    return Spent(
        cpu_seconds=info["used_cpu_sys"] + info["used_cpu_user"],
        reads=info["total_reads_processed"],
        commands=info["total_commands_processed"],
    )


class Tree:
    """A worker: the process that was started and all below it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    def check(self) -> None:
        """Raise `EndedError`, with the end of its log, unless it runs."""
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-TAIL:]
            raise EndedError(f"{self.process.args!r} ended with status {self.process.returncode}: {tail}")

    def cpu_seconds(self) -> float:
        """User and system time of all living processes and of those they have waited for."""
        total = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Stopped as by ctrl-Z for the length of a `with` block: warm, and taking no job."""
        self.check()
        stopped = self._members()
        try:
            for process in stopped:
                process.suspend()
            yield
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def end(self) -> None:
        """Ask it to end; kill what is left after a while."""
        members = self._members()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_SECONDS)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _members(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []


class Sender:
    """A producer. See sender.py for what it understands."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.can_send_many = bool(self._answer()["bulk"])

    def order(self, order: str, **arguments: Any) -> dict[str, float]:
        """Have it done; return the `seconds` and `cpu_seconds` it took."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise EndedError(f"{self.process.args!r} ended: {self.log.read_text(errors='replace')[-TAIL:]}")
        return dict(json.loads(line))


@contextlib.contextmanager
def worker(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Tree]:
    with log.open("w") as output:
        process = _start(command, environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    tree = Tree(process, log)
    try:
        yield tree
    finally:
        tree.end()


@contextlib.contextmanager
def sender(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Sender]:
    with log.open("w") as output:
        process = _start(command, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output)
    try:
        yield Sender(process, log)
    finally:
        process.kill()
        process.wait()


def _start(command: Sequence[str], environment: Mapping[str, str], **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        start_new_session=True,  # ctrl-C is for us; we end them
        preexec_fn=die_with_parent,
        **streams,
    )


def unwind_on_signals() -> None:
    """Have INT and TERM end every process; INT also where a shell without job control has it ignored."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
