"""dramatiq on Redis, as it comes; with BENCH_DRAMATIQ=results it keeps results there too."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.race import work
from scaling_kit.testing import die_with_parent

die_with_parent()  # dramatiq's own processes outlive a master that is killed

URL = os.environ["BENCH_REDIS_URL"]

broker = RedisBroker(url=URL)
if os.environ.get("BENCH_DRAMATIQ") == "results":
    broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)

ACTORS = {name: dramatiq.actor(function) for name, function in work.BY_NAME.items()}


def send(name: str) -> None:
    ACTORS[name].send(time.time())


def send_at(name: str, due_at: float) -> None:
    delay_ms = max(0, round((due_at - time.time()) * 1000))
    ACTORS[name].send_with_options(args=(due_at,), delay=delay_ms)
