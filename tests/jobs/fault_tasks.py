"""Tasks of the tests of faults. What they did is left in a file, which outlives Redis and whoever is killed."""

import ctypes
import os
import time

from scaling_kit.jobs.tasks import TaskContext, task
from tests.jobs.journal import Journal


@task
def work(path: str, name: str, seconds: float) -> int:
    """Work so long; return the pid. Touches no Redis."""
    journal = Journal(path)
    journal.look_beside(name)
    journal.note("started", name)
    time.sleep(seconds)
    journal.note("ended", name)
    return os.getpid()


@task
def hold_the_interpreter(path: str, name: str, seconds: float) -> None:
    """As C code does that computes for long: no other thread of the process gets to run."""
    journal = Journal(path)
    journal.note("started", name)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:  # a signal ends the C function's sleep
        ctypes.PyDLL(None).usleep(int(1e6 * max(0, deadline - time.monotonic())))
    journal.note("ended", name)


@task(takes_context=True)
def hang_the_first_time(context: TaskContext, path: str, name: str) -> None:
    journal = Journal(path)
    journal.note("started", name)
    if context.attempt == 1:
        time.sleep(120)
    journal.note("ended", name)


def plain(path: str, name: str) -> int:
    """Not a task: a function that a plain django-rq project enqueues."""
    journal = Journal(path)
    journal.note("started", name)
    journal.note("ended", name)
    return os.getpid()
