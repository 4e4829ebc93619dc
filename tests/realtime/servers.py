"""Real servers for the acceptance tests: a Valkey of one's own, gunicorn with websocket workers, publishers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from scaling_kit import embedded
from scaling_kit.testing import die_with_parent, wait_until


def environment(redis_url: str, prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.realtime.settings",
        "SCALING_KIT_TEST_REDIS_URL": redis_url,
        "SCALING_KIT_TEST_PREFIX": prefix,
    }


@contextmanager
def gunicorn(redis_url: str, prefix: str, *, workers: int = 2) -> Iterator[str]:
    """Yield the websocket URL of a server of several processes."""
    with gunicorn_process(redis_url, prefix, workers=workers) as (url, _):
        yield url


@contextmanager
def gunicorn_process(redis_url: str, prefix: str, *, workers: int = 2) -> Iterator[tuple[str, psutil.Process]]:
    port = embedded.free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "tests.realtime.asgi:application", "--bind", f"127.0.0.1:{port}"),
        *("-k", "uvicorn_worker.UvicornWorker", "--workers", str(workers), "--log-level", "warning"),
        *("--graceful-timeout", "3", "--no-control-socket"),
    ]
    process = subprocess.Popen(command, env=environment(redis_url, prefix), preexec_fn=die_with_parent)
    try:
        wait_until(lambda: embedded.accepts(port), what="gunicorn listens")
        yield f"ws://127.0.0.1:{port}/", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=10)


def sockets(worker: psutil.Process) -> int:
    """How many clients a worker serves."""
    port = next(connection.laddr.port for connection in worker.net_connections() if connection.status == "LISTEN")
    connections = [connection for connection in worker.net_connections() if connection.laddr.port == port]
    return sum(connection.status == "ESTABLISHED" for connection in connections)


def publish_elsewhere(
    redis_url: str, prefix: str, room: str, numbers: range, **options: Any
) -> subprocess.Popen[bytes]:
    """Publish each number from a process of its own, 10 ms apart."""
    code = (
        "import django, time; django.setup()\n"
        "from scaling_kit.realtime import publish\n"
        f"for number in range({numbers.start}, {numbers.stop}):\n"
        f"    publish({room!r}, 'n', number); time.sleep(0.01)\n"
        "from scaling_kit.realtime.publishing import _outbox\n"
        "while _outbox._waiting: time.sleep(0.1)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], env=environment(redis_url, prefix), **options)
