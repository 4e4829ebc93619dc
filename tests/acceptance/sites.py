"""A running `manage.py cluster up` of the small project, and a load that does not wait for its answers."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from scaling_kit.cluster import run_folder
from scaling_kit.testing import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """A running `cluster up`."""

    folder: Path
    runner: subprocess.Popen[bytes]

    @property
    def state(self) -> dict:
        return run_folder.read_state(self.folder) or {"url": "", "processes": {}}

    @property
    def url(self) -> str:
        return self.state["url"]

    def pid(self, name: str) -> int:
        return self.state["processes"][name]["pid"]

    def is_ready(self) -> bool:
        if self.runner.poll() is not None:
            pytest.fail(f"the runner ended: {(self.folder / 'output').read_text()}")
        states = {process["state"] for process in self.state["processes"].values()}
        return states == {"ready"}

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, timeout_seconds=30, what="cluster up is ready")

    def processes(self) -> list[psutil.Process]:
        """The runner, its children and theirs."""
        runner = psutil.Process(self.runner.pid)
        return [runner, *runner.children(recursive=True)]

    def kill(self, name: str) -> None:
        """Kill it and wait for its successor."""
        killed = self.pid(name)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self.pid(name) not in (None, killed) and self.is_ready(), what=f"{name} is back")


@contextmanager
def cluster_up(folder: Path, *options: str, **more_environment: str) -> Iterator[Site]:
    """Started and ready."""
    with (folder / "output").open("wb") as output:
        runner = subprocess.Popen(
            [sys.executable, "-m", "django", "cluster", "up", *options],
            cwd=ROOT,
            env=environment(folder) | more_environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    site = Site(folder=folder, runner=runner)
    try:
        site.wait_until_ready()
        yield site
    finally:
        runner.terminate()
        runner.wait(timeout=40)


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "tests.projects.site.settings", "RUN_FOLDER": str(folder)}


@dataclass
class OpenLoad:
    """GETs and POSTs of 50 ms at a constant rate, whatever becomes of them; half of the clients keep connections.

    As an HTTP client should, these look before they send whether the server has closed a kept connection.
    """

    url: str
    rate: int = 100
    seconds_each: float = 0.05
    answered: list[int] = field(default_factory=list)
    """The pid behind each answer."""
    slowest_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> OpenLoad:
        self._stop = threading.Event()
        self._kept: deque[HTTPConnection] = deque()
        self._clients = ThreadPoolExecutor(max_workers=2 * self.rate)
        self._clock = threading.Thread(target=self._send)
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._clock.join()
        self._clients.shutdown()
        for connection in self._kept:
            connection.close()

    def wait_for(self, more: int) -> None:
        target = len(self.answered) + len(self.failures) + more
        wait_until(lambda: len(self.answered) + len(self.failures) >= target, timeout_seconds=30, what="answers")

    def _send(self) -> None:
        began_at = time.monotonic()
        number = 0
        while not self._stop.wait(max(0.0, began_at + number / self.rate - time.monotonic())):
            self._clients.submit(self._ask, "GET" if number % 2 else "POST", keep=number % 4 < 2)
            number += 1

    def _ask(self, method: str, *, keep: bool) -> None:
        began_at = time.monotonic()
        connection = self._connection(keep=keep)
        try:
            headers = {} if keep else {"Connection": "close"}
            connection.request(method, f"/?seconds={self.seconds_each}", b"x" if method == "POST" else None, headers)
            response = connection.getresponse()
            body = response.read()
            self.answered.append(int(body.split()[0]))  # an error page does not begin with a pid
            if keep:
                self._kept.append(connection)
        except (OSError, ValueError, IndexError, HTTPException) as error:
            self.failures.append(f"{method} keep={keep} {error!r} after {time.monotonic() - began_at:.2f} s")
            connection.close()
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began_at)

    def _connection(self, *, keep: bool) -> HTTPConnection:
        while keep and self._kept:
            kept = self._kept.popleft()
            if not is_closed(kept):
                return kept
            kept.close()
        return HTTPConnection(urlsplit(self.url).netloc, timeout=20)


def is_closed(connection: HTTPConnection) -> bool:
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])
