"""Celery: broker and results in Redis, everything else as it comes unless BENCH_CELERY says so.

With DJANGO_SETTINGS_MODULE in the environment Celery takes care of Django's database connections, as the kit does.
"""

from __future__ import annotations

import os
import time

from celery import Celery

from bench.race import work

URL = os.environ["BENCH_REDIS_URL"]
OPTIONS = os.environ.get("BENCH_CELERY", "").split()

app = Celery("bench", broker=URL, backend=URL)
app.conf.update(task_ignore_result="ignore_result" in OPTIONS, task_acks_late="acks_late" in OPTIONS)
app.conf.broker_connection_retry_on_startup = True

TASKS = {name: app.task(function, name=name) for name, function in work.BY_NAME.items()}


def send(name: str) -> None:
    TASKS[name].delay(time.time())


def send_at(name: str, due_at: float) -> None:
    TASKS[name].apply_async((due_at,), countdown=due_at - time.time())
