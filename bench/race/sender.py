"""The producer of a contestant: does what it reads, a line of JSON at a time, and answers with what that cost.

    python -m bench.race.sender bench.race.rq_jobs

A library's module has `send(name)`, `send_at(name, due_at)` and, if the library enqueues many in one go,
`send_many(name, count)`. bullmq.cjs speaks the same protocol.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any

import django

BATCH = 500


def main() -> None:
    django.setup()
    library = import_module(sys.argv[1])
    print(json.dumps({"bulk": hasattr(library, "send_many")}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        started_at, cpu = time.perf_counter(), time.process_time()
        obey(library, **order)
        spent = {"seconds": time.perf_counter() - started_at, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(spent), flush=True)


def obey(library: ModuleType, *, order: str, name: str = "noop", **arguments: Any) -> None:
    {"send": send, "send_many": send_many, "send_paced": send_paced, "send_at": send_at}[order](
        library, name, **arguments
    )


def send(library: ModuleType, name: str, *, count: int) -> None:
    for _ in range(count):
        library.send(name)


def send_many(library: ModuleType, name: str, *, count: int) -> None:
    for begin in range(0, count, BATCH):
        library.send_many(name, min(BATCH, count - begin))


def send_paced(library: ModuleType, name: str, *, count: int, every_seconds: float) -> None:
    begun_at = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, begun_at + number * every_seconds - time.perf_counter()))
        library.send(name)


def send_at(library: ModuleType, name: str, *, delays: list[float]) -> None:
    now = time.time()
    for delay in delays:
        library.send_at(name, now + delay)


if __name__ == "__main__":
    main()
