"""The process managers of bench/web_faults.py, each with two processes of one application."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.race.processes import ROOT, Tree, worker
from bench.serving import releases, tools
from bench.serving.releases import Release
from scaling_kit.embedded import free_port
from scaling_kit.testing import wait_until

WORKERS = 2
THREADS = 8
START_SECONDS = 60.0
COMMAND_SECONDS = 120.0
MAX_REQUESTS = 150
MEMORY_MB = 150
SETTINGS = "bench.serving.host_settings"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command has come to. A signal has no exit status. `said`: the last line, of one that failed."""

    seconds: float
    status: int | None = None
    said: str = ""

    def then(self, later: Done) -> Done:
        """Both, one after the other."""
        return Done(
            seconds=self.seconds + later.seconds,
            status=self.status or later.status,
            said=self.said or later.said,
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a process is to be replaced, if at all."""

    requests: bool = False
    memory: bool = False


@dataclass(kw_only=True)
class Host:
    """Base of all. `cannot` are the names of the scenarios that it has no means for."""

    folder: Path
    redis_url: str
    limits: Limits = field(default_factory=Limits)
    port: int = field(default_factory=free_port)
    tree: Tree = field(init=False)
    name: ClassVar[str]
    configured: ClassVar[str]
    cannot: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Callable[[], object]] = staticmethod(lambda: None)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def hoard_if(self) -> Path:
        """As long as this file exists, each answer takes memory for good."""
        return self.folder / "hoard"

    def write(self, release: Release) -> None:
        (self.folder / "release.py").write_text(releases.in_python(release, self.hoard_if))

    def start(self) -> None:
        """Running, and both processes answering."""
        self.write(Release())
        self._launch()
        self.wait_for_workers(WORKERS)

    def end(self) -> None:
        self._stack.close()

    def reload(self) -> Done:
        return self._signal(signal.SIGHUP)

    def scale(self, number: int) -> Done:
        raise NotImplementedError

    def stop_and_start(self) -> Done:
        """As one would: a process that has no command for it is ended and started again."""
        begun_at = time.monotonic()
        self.tree.process.terminate()
        self.tree.process.wait()
        self._launch()
        return Done(seconds=time.monotonic() - begun_at)

    def wait_for_workers(self, number: int) -> None:
        seen: set[int | None] = set()

        def all_have_answered() -> bool:
            with ThreadPoolExecutor(max_workers=2 * THREADS) as clients:  # at once, or one process may take them all
                seen.update(clients.map(lambda _: self._ask(), range(2 * THREADS)))
            return len(seen - {None}) >= number

        try:
            wait_until(all_have_answered, timeout_seconds=START_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"{number} processes did not answer; the end of its log: {self._log_tail()}") from None

    def _launch(self) -> None:
        self._start_tree(self._command())

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _start_tree(self, command: Sequence[str]) -> None:
        self.tree = self._stack.enter_context(worker(command, self._environment(), self.folder / "log"))

    def _environment(self) -> Mapping[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RUN_FOLDER": str(self.folder / "run"),
            "SERVING_REDIS_URL": self.redis_url,
            "SERVING_SETTINGS": "{}",
        }

    def _signal(self, number: signal.Signals) -> Done:
        with suppress(ProcessLookupError):
            self.tree.process.send_signal(number)
        return Done(seconds=0.0)

    def _run(self, *command: str) -> Done:
        begun_at = time.monotonic()
        environment = {**os.environ, **self._environment()}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"`{' '.join(command[1:])}` did not return within {COMMAND_SECONDS:.0f} s") from None
        lines = done.stdout.strip().splitlines() if done.returncode else []
        seconds = time.monotonic() - begun_at
        return Done(seconds=seconds, status=done.returncode, said=lines[-1] if lines else "")

    def _ask(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/pid?0.02", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
            return int(body) if response.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _log_tail(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-500:] if log.exists() else "none"


class Kit(Host):
    name = "kit"
    configured = "`manage.py cluster up --web=2 --no-nginx`, 8 threads; its own commands"

    def reload(self) -> Done:
        return self._cluster("reload", "web")

    def scale(self, number: int) -> Done:
        return self._cluster("scale", f"web={number}")

    def stop_and_start(self) -> Done:
        return self._cluster("stop", "web").then(self._cluster("start", "web"))

    def _command(self) -> Sequence[str]:
        # fmt: off
        return [
            sys.executable, "-m", "django", "cluster", "up", f"--web={WORKERS}", "--websocket=0", "--workers=0",
            "--schedulers=0", "--no-nginx", "--bind", f"127.0.0.1:{self.port}",
        ]
        # fmt: on

    def _environment(self) -> Mapping[str, str]:
        given = {}
        if self.limits.requests:
            given["SCALING_KIT_CLUSTER_MAX_REQUESTS"] = MAX_REQUESTS
        if self.limits.memory:
            given["SCALING_KIT_CLUSTER_MEMORY_MAX_MB"] = MEMORY_MB
        return {**super()._environment(), "SERVING_SETTINGS": json.dumps(given)}

    def _cluster(self, *arguments: str) -> Done:
        return self._run(sys.executable, "-m", "django", "cluster", *arguments)


class Gunicorn(Host):
    name = "gunicorn"
    configured = "stock: `gunicorn -k gthread --workers 2 --threads 8`; signals"
    cannot = ("memory limit",)

    def scale(self, number: int) -> Done:
        begun_at = time.monotonic()
        up = number > WORKERS
        for _ in range(abs(4 - 2)):
            self._signal(signal.SIGTTIN if up else signal.SIGTTOU)
            time.sleep(0.2)  # the kernel merges equal signals
        return Done(seconds=time.monotonic() - begun_at)

    def _command(self) -> Sequence[str]:
        limits = ("--max-requests", f"{MAX_REQUESTS}", "--max-requests-jitter", f"{MAX_REQUESTS // 10}")
        # fmt: off
        return [
            sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", f"{WORKERS}",
            "--threads", f"{THREADS}", "--bind", f"127.0.0.1:{self.port}",
            "--control-socket", str(self.folder / "gunicorn.ctl"),  # the default is one per user
            *(limits if self.limits.requests else ()), "release:application",
        ]
        # fmt: on


class Granian(Host):
    name = "granian"
    configured = (
        "`granian --interface wsgi --workers 2 --blocking-threads 8 --respawn-failed-workers`; "
        "for the memory limit `--workers-max-rss 150 --rss-sample-interval 2`; signals"
    )
    cannot = ("scale 2 → 4 → 2", "max requests")
    needs = staticmethod(lambda: tools.python_packages("granian"))

    def _command(self) -> Sequence[str]:
        limits = ("--workers-max-rss", f"{MEMORY_MB}", "--rss-sample-interval", "2")
        # fmt: off
        return [
            sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", f"{WORKERS}",
            "--blocking-threads", f"{THREADS}", "--host", "127.0.0.1", "--port", f"{self.port}",
            "--respawn-failed-workers", *(limits if self.limits.memory else ()), "release:application",
        ]
        # fmt: on

    def _environment(self) -> Mapping[str, str]:
        path = [str(self.folder), str(ROOT), str(tools.python_packages("granian"))]
        return {**super()._environment(), "PYTHONPATH": os.pathsep.join(path)}


class Pm2(Host):
    name = "PM2"
    configured = "`pm2 start app.cjs -i 2`, its defaults; the application has no handler for SIGINT; its own commands"
    cannot = ("max requests",)
    needs = staticmethod(lambda: tools.node_modules("pm2"))
    options: ClassVar[tuple[str, ...]] = ()
    drains: ClassVar[bool] = False

    def write(self, release: Release) -> None:
        (self.folder / "app.cjs").write_text(releases.in_node(release, self.hoard_if, drains=self.drains))

    def reload(self) -> Done:
        return self._pm2("reload", "app")

    def scale(self, number: int) -> Done:
        return self._pm2("scale", "app", f"{number}")

    def stop_and_start(self) -> Done:
        return self._pm2("stop", "app").then(self._pm2("start", "app"))

    def _launch(self) -> None:
        # The daemon that `pm2 start` would start; as our child it does not outlive us.
        self._start_tree(["node", str(tools.node_modules("pm2") / "pm2" / "lib" / "Daemon.js")])
        socket = self.folder / "pm2" / "rpc.sock"
        wait_until(socket.exists, timeout_seconds=START_SECONDS, what="PM2's daemon listens")
        limit = ("--max-memory-restart", f"{MEMORY_MB}M") if self.limits.memory else ()
        self._pm2("start", str(self.folder / "app.cjs"), "--name", "app", "-i", f"{WORKERS}", *self.options, *limit)

    def _environment(self) -> Mapping[str, str]:
        return {
            "PM2_HOME": str(self.folder / "pm2"),
            "PM2_DISABLE_VERSION_CHECK": "true",
            "PM2_WORKER_INTERVAL": "2000",  # ms between its looks at the memory, by default 30 000
            "PORT": str(self.port),
        }

    def _start_tree(self, command: Sequence[str]) -> None:
        (self.folder / "pm2").mkdir(exist_ok=True)
        super()._start_tree(command)

    def _pm2(self, *arguments: str) -> Done:
        return self._run("node", str(tools.node_modules("pm2") / "pm2" / "bin" / "pm2"), *arguments)


class CarefulPm2(Pm2):
    name = "PM2, careful"
    configured = (
        "`pm2 start app.cjs -i 2 --wait-ready --listen-timeout 15000 --kill-timeout 10000`; "
        "the application says when it is ready, and drains on SIGINT"
    )
    options = ("--wait-ready", "--listen-timeout", "15000", "--kill-timeout", "10000")
    drains = True


HOSTS: tuple[type[Host], ...] = (Kit, Pm2, CarefulPm2, Gunicorn, Granian)
