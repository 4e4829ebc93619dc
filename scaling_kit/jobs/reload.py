"""New code for a supervisor: loaded first in a fresh interpreter, then taken over by exec, with pid and children."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from scaling_kit.jobs.processes import SIGNALS, Child, same_command

logger = logging.getLogger(__name__)

# Set for a fresh interpreter that only has to show that the new code can be loaded.
PROBE = "SCALING_KIT_JOBS_PROBE"
# The workers that a supervisor leaves to the one it becomes by exec.
HEIRLOOM = "SCALING_KIT_JOBS_HEIRLOOM"


class Probe:
    """Loads the new code in a fresh interpreter: should that fail, the old workers stay."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def begin(self) -> None:
        if self._process is None:
            logger.info("reload begins, probing the new code")
            self._process = subprocess.Popen(same_command(), env={**os.environ, PROBE: "1"})

    def has_succeeded(self) -> bool:
        """True once, when the code has been loaded."""
        if self._process is None or self._process.poll() is None:
            return False
        status, self._process = self._process.returncode, None
        if status != 0:
            logger.error("reload given up: the new code cannot be loaded, status=%s; the old workers stay", status)
        return status == 0


def become_new(processes: int, workers: Sequence[Child]) -> NoReturn:
    """Replace this process's code, keeping its pid and its children, which go on working meanwhile."""
    heirloom = {"processes": processes, "workers": [[child.name, child.pid, child.stopping] for child in workers]}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # kept by exec: none is lost, none kills us
    os.environ[HEIRLOOM] = json.dumps(heirloom)
    sys.stdout.flush()
    sys.stderr.flush()
    command = same_command()
    os.execv(command[0], command)  # noqa: S606  (no shell is the point)


def inherited(processes: int) -> tuple[int, list[Child]]:
    """How many processes were wanted, and the workers of the supervisor that became this one, if there was one."""
    heirloom = json.loads(os.environ.pop(HEIRLOOM, "{}"))
    workers = [
        Child(name=name, pid=pid, stopping=stopping, outdated=True)
        for name, pid, stopping in heirloom.get("workers", [])
    ]
    return heirloom.get("processes", processes), workers
