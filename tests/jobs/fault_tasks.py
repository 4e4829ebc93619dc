"""Tasks of the tests of faults. What they did is left in a file, which outlives Redis and whoever is killed."""

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
    """No other thread of the process gets to run but for moments, nor does a signal handler."""
    journal = Journal(path)
    journal.note("started", name)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(20_000_000))
    journal.note("ended", name)


@task(takes_context=True)
def hang_the_first_time(context: TaskContext, path: str, name: str) -> None:
    journal = Journal(path)
    journal.note("started", name)
    if context.attempt == 1:
        time.sleep(120)
    journal.note("ended", name)
