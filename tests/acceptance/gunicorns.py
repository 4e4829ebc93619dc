"""Real gunicorns for tests: a server with a project of its own, and a load that counts what it loses."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling_kit import members
from scaling_kit.embedded import free_port
from scaling_kit.testing import die_with_parent, wait_until

REPOSITORY = Path(__file__).parents[2]

APPLICATION = """
import os, time
from django.core.wsgi import get_wsgi_application
time.sleep({boot_seconds})
django = get_wsgi_application()

def application(environ, start_response):
    if not environ["PATH_INFO"].startswith("/pid"):
        return django(environ, start_response)
    time.sleep(float(environ["QUERY_STRING"] or 0.02))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

WEBSOCKETS = """
from pathlib import Path

async def application(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({{"type": "websocket.accept"}})
    while (event := await receive())["type"] == "websocket.receive":
        await send({{"type": "websocket.send", "text": event["text"]}})
    with Path({told!r}).open("a") as told:
        told.write(f"{{event['code']}} ")
"""


@dataclass(kw_only=True)
class Gunicorn:
    folder: Path
    prefix: str
    """Of the keys in Redis; the calling test has it as its own."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    configuration: str = "scaling_kit.cluster.gunicorn"
    arguments: tuple[str, ...] = ()
    """More of them for gunicorn."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def write_application(self, source: str) -> None:
        (self.folder / "site_app.py").write_text(source)

    def write_settings(self, **more: Any) -> None:
        given = {"SCALING_KIT_KEY_PREFIX": self.prefix, "SCALING_KIT_CLUSTER_WORKERS": 2, **self.settings, **more}
        lines = ["from tests.settings import *", *(f"{name} = {value!r}" for name, value in given.items())]
        (self.folder / "site_settings.py").write_text("\n".join(lines))

    def start(self) -> None:
        self.write_settings()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "scaling_kit.cluster.serve", "-c", f"python:{self.configuration}"),
                    *("--bind", f"127.0.0.1:{self.port}", *self.arguments, "site_app:application"),
                ],
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "site_settings",
                    "PYTHONPATH": f"{self.folder}{os.pathsep}{REPOSITORY}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        try:
            wait_until(lambda: self.log.count(text) >= times, timeout_seconds=20)
        except TimeoutError:
            raise TimeoutError(f"{text!r} is not {times} times in the log:\n{self.log}") from None

    def wait_for_workers(self, number: int = 2) -> set[int]:
        wait_until(lambda: len(pids()) == number, timeout_seconds=20, what=f"{number} workers; {self.log}")
        return pids()

    def signal(self, sig: signal.Signals) -> None:
        self.process.send_signal(sig)

    def get(self, path: str) -> tuple[int, bytes]:
        response, body = self._ask(path)
        return response.status, body

    def header(self, path: str, name: str) -> str | None:
        return self._ask(path)[0].getheader(name)

    def _ask(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    @contextmanager
    def under_load(self) -> Iterator[Load]:
        load = Load(port=self.port)
        load.start()
        try:
            yield load
        finally:
            load.stop()


@contextmanager
def gunicorn(folder: Path, prefix: str, *, application: str, **options: Any) -> Iterator[Gunicorn]:
    server = Gunicorn(folder=folder, prefix=prefix, **options)
    server.write_application(application)
    server.start()
    try:
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def pids() -> set[int]:
    return {int(record["pid"]) for record in members.fetch_members()}


@dataclass(kw_only=True)
class Load:
    """Three clients that keep their connection and three that do not, each asking again as soon as it is answered."""

    port: int
    answered: list[int] = field(default_factory=list)
    """The pid behind each answer."""
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.threads = [threading.Thread(target=self._ask, args=[keep]) for keep in (True, False) * 3]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until that many more requests have been answered or have failed."""
        target = len(self.answered) + len(self.failures) + more
        wait_until(lambda: len(self.answered) + len(self.failures) >= target, timeout_seconds=30, what="answers")

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        while not self.stopped.is_set():
            began_at = time.monotonic()
            try:
                connection.request("GET", "/pid", headers={} if keep else {"Connection": "close"})
                response = connection.getresponse()
                body = response.read()
                self.answered.append(int(body))  # an error page is not a number
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.failures.append(f"{error!r} keep={keep} after {time.monotonic() - began_at:.2f} s")
                connection.close()
        connection.close()
