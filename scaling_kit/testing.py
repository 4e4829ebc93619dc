"""Aids for the tests of a project that uses the kit (and for the kit's own): real servers, keys of one's own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.test import override_settings

from scaling_kit.embedded import Server

T = TypeVar("T")


@contextmanager
def running(server: Server, *, timeout_seconds: float = 30.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run an embedded server for the length of a `with` block. It dies with this process, even by kill -9."""
    server.prepare()
    process = start(server)
    try:
        wait_until(server.is_ready, timeout_seconds=timeout_seconds, what=f"{server.name} answers")
        yield process
    finally:
        process.send_signal(signal.SIGINT if server.name == "postgres" else signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(server: Server) -> subprocess.Popen[bytes]:
    """Start a prepared server as a child that cannot outlive us."""
    return subprocess.Popen(
        server.command(),
        env={**os.environ, **server.environment()},
        user=server.user,
        preexec_fn=die_with_parent,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("SCALING_KIT_TESTING_VERBOSE") else subprocess.DEVNULL,
    )


def die_with_parent() -> None:
    """For `preexec_fn`: have the kernel kill this process when its parent dies. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806  (linux/prctl.h)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition: Callable[[], T], *, timeout_seconds: float = 10.0, what: str = "") -> T:
    """Poll until `condition()` is true and return its value; raise `TimeoutError` after the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {timeout_seconds} s: {what or condition}")
        time.sleep(0.02)


@contextmanager
def isolated_keys() -> Iterator[str]:
    """Give the kit a key prefix of its own, so that tests share a Redis without seeing each other's keys."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    with override_settings(SCALING_KIT_KEY_PREFIX=prefix):
        yield prefix
