"""What is scheduled: a job that nobody runs, so that it stays on the queue to be counted, and one that takes long."""

from __future__ import annotations

import time

from scaling_kit.jobs.tasks import task
from tests.jobs.journal import Journal


@task
def count() -> None: ...


@task(queue_name="long")
def outlast(journal: str, name: str, seconds: float) -> None:
    """Run longer than the period, and say when."""
    written = Journal(journal)
    written.note("started", name)
    time.sleep(seconds)
    written.note("ended", name)
