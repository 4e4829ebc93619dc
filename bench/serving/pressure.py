"""A server of the field, running, and what wrk and the kernel say of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.race.processes import ROOT, Tree, worker
from bench.serving import tools
from bench.serving.field import Contestant
from scaling_kit.embedded import free_port
from scaling_kit.testing import wait_until

CONNECTIONS = 32
START_SECONDS = 60.0
UNITS_IN_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class RefusedError(Exception):
    """A server did not answer as it should."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one view in one round. CPU is that of all processes of the server, Redis and wrk not among them."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    contestant: Contestant
    workers: int
    port: int
    tree: Tree
    token: str

    def pss_mb(self) -> float:
        """Memory of all its processes, shared pages counted once among them."""
        total = 0
        root = psutil.Process(self.tree.process.pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 1e6

    def fetch(self, view: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/{view}", headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RefusedError(f"/{view} was answered with {response.status}: {body[:200]!r}")
        return body


@contextlib.contextmanager
def serving(
    contestant: Contestant, workers: int, *, environment: Mapping[str, str], token: str, folder: Path
) -> Iterator[Serving]:
    """Started, and answering every view it has."""
    port = free_port()
    beside = {key: value.format(workers=workers, port=port) for key, value in contestant.environment.items()}
    prepared = dict(contestant.prepare())
    python_path = [prepared.pop("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]
    log = folder / f"{contestant.name.replace(' ', '-')}-{workers}.log"
    with worker(
        contestant.command_for(workers=workers, port=port),
        {**environment, **beside, **prepared, "PYTHONPATH": os.pathsep.join(filter(None, python_path))},
        log,
    ) as tree:
        found = Serving(contestant=contestant, workers=workers, port=port, tree=tree, token=token)
        wait_until(lambda: _answers(found), timeout_seconds=START_SECONDS, what=f"{contestant.name} answers; see {log}")
        yield found


def press(server: Serving, view: str, seconds: int) -> Figures:
    """Raises `EndedError` or `RefusedError`."""
    server.tree.check()
    program = tools.wrk()
    before = server.tree.cpu_seconds()
    # fmt: off
    done = subprocess.run(
        [
            program.path, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency",
            "-H", f"Authorization: Bearer {server.token}", f"http://127.0.0.1:{server.port}/{view}",
        ],
        env={**os.environ, **program.environment}, capture_output=True, text=True, check=False,
    )
    # fmt: on
    cpu_seconds = server.tree.cpu_seconds() - before
    if done.returncode:
        raise RefusedError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return _read(done.stdout, cpu_seconds)


def _answers(server: Serving) -> bool:
    server.tree.check()
    try:
        for view in server.contestant.views:
            server.fetch(view)
    except (OSError, http.client.HTTPException):
        return False
    return True


def _read(output: str, cpu_seconds: float) -> Figures:
    for complaint in ("Non-2xx", "Socket errors"):
        line = next((line for line in output.splitlines() if complaint in line), "")
        if line:
            raise RefusedError(line.strip())
    requests = _number(r"(\d+) requests in", output)
    return Figures(
        per_second=_number(r"Requests/sec:\s+([\d.]+)", output),
        p50_ms=_latency("50", output),
        p99_ms=_latency("99", output),
        cpu_us=cpu_seconds / max(requests, 1) * 1e6,
    )


def _latency(percent: str, output: str) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    if not found:
        raise RefusedError(f"wrk said nothing of the {percent} % quantile: {output}")
    return float(found[1]) * UNITS_IN_MS[found[2]]


def _number(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    if not found:
        raise RefusedError(f"wrk said something else: {output}")
    return float(found[1])
