"""Stock RQ: functions, enqueued through django-rq."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import django_rq
from rq.queue import Queue

from bench.race import work

queue = django_rq.get_queue("default")


def send(name: str) -> None:
    queue.enqueue(work.BY_NAME[name], time.time())


def send_many(name: str, count: int) -> None:
    queue.enqueue_many([Queue.prepare_data(work.BY_NAME[name], (time.time(),)) for _ in range(count)])


def send_at(name: str, due_at: float) -> None:
    queue.enqueue_at(datetime.fromtimestamp(due_at, UTC), work.BY_NAME[name], due_at)
