"""Processes: forked so that none outlives its parent, waited for, and killed with all they started."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import connections

logger = logging.getLogger(__name__)

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


@dataclass(kw_only=True)
class Child:
    """A process of ours. `name` is the worker's, or empty for the one that does the upkeep."""

    name: str
    pid: int
    outdated: bool = False
    stopping: bool = False
    ready_fd: int | None = None
    started_at: float = field(default_factory=time.monotonic)

    def is_ready(self) -> bool:
        if self.ready_fd is not None:
            try:
                os.read(self.ready_fd, 1)
            except BlockingIOError:
                return False
            self.forget_fd()
        return True

    def forget_fd(self) -> None:
        if self.ready_fd is not None:
            os.close(self.ready_fd)
        self.ready_fd = None


def fork(body: Callable[[], int]) -> int:
    """Run `body` in a child that cannot outlive us, in a process group of its own; return its pid."""
    connections.close_all()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a TERM for the child must not meet our handler in it
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid
    status = 1
    try:
        die_with(parent)
        os.setpgid(0, 0)
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)  # until the body says otherwise: what it gets is meant for us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        status = body()
    except BaseException:
        logger.exception("process died of an error pid=%s", os.getpid())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_status(pid: int) -> int | None:
    """The wait status of a child that has ended, or None."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 1
    return status if ended else None


def kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        logger.debug("no process pid=%s", pid)


def kill_group(pid: int) -> None:
    """Kill a worker and the child that runs its job."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        logger.debug("no process group pgid=%s", pid)


def same_command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.WEXITSTATUS(status)}"


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even by kill -9. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806  (linux/prctl.h)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)
