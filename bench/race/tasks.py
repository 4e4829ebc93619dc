"""The kit: tasks of Django's Tasks API."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bench.race import work
from scaling_kit.jobs.tasks import task


@task
def noop(due_at: float) -> None:
    work.noop(due_at)


@task
def nap(due_at: float) -> None:
    work.nap(due_at)


TASKS = {"noop": noop, "nap": nap}


def send(name: str) -> None:
    TASKS[name].enqueue(time.time())


def send_many(name: str, count: int) -> None:
    TASKS[name].enqueue_many(((time.time(),), {}) for _ in range(count))


def send_at(name: str, due_at: float) -> None:
    TASKS[name].using(run_after=datetime.fromtimestamp(due_at, UTC)).enqueue(due_at)
