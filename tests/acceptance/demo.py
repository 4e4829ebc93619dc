"""The whole demo, started as `make demo` starts it, on ports and a run folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from scaling_kit.embedded import free_port
from scaling_kit.testing import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A second for which the scheduler enqueued a job, and how often that job ran."""

    at: int
    runs: int


class Demo:
    """A running demo. `start()` returns when the wall has been seeded."""

    def __init__(self, folder: Path, *, options: Sequence[str] = (), **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/ws/"
        self.log = folder / "demo.log"
        self._options = options
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *, timeout_seconds: float = 150) -> None:
        command = [sys.executable, "-m", "demo_project", "--port", str(self.port), "--run-folder", str(self.folder)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], cwd=REPOSITORY, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(self._announced, timeout_seconds=timeout_seconds)
        except TimeoutError as error:
            error.add_note(self._last_lines())
            raise

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_seconds: float = 60) -> int:
        """Ask it to end; return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=timeout_seconds)

    def kill(self) -> None:
        """kill -9 of the runner; nothing if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def descendants(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def run_python(self, script: str, *, stdin: str = "") -> str:
        """Run a script as a person would in another terminal; return what it printed."""
        mine = {"DJANGO_SETTINGS_MODULE": "demo_project.settings", "DEMO_RUN_FOLDER": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-startup", "-v", "0", "-c", script],
            cwd=REPOSITORY, env={**self._environment, **mine}, input=stdin,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ticks(self) -> list[Tick]:
        """Every tick of the photo of the minute that became a job, by time."""
        script = (
            "from demo_project.wall.models import Pick; print(*Pick.objects.values_list('tick', 'runs'), sep='\\n')"
        )
        rows = [line.strip("()").split(", ") for line in self.run_python(script).splitlines()]
        found = [Tick(at=int(tick.strip("'").rpartition("-")[2]), runs=int(runs)) for tick, runs in rows]
        return sorted(found, key=lambda tick: tick.at)

    def _announced(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"The demo ended with {self._process.returncode}:\n{self._last_lines()}")
        return f"Photo wall: {self.url}" in self.log.read_text()

    def _last_lines(self) -> str:
        return self.log.read_text()[-5000:]
