"""How late the ticks of very many schedules are on one leader, and what a claim costs.

    python bench/scheduler.py [--schedules 10000] [--rounds 5]

One leader in this process, on a Valkey of its own (append-only file, as the demo runs it), with the jobs room behind
it: each tick is a whole RQ job. Lateness is by Redis's clock, from the tick to the moment at which its job is on the
queue. `at once`: every schedule is due in the same second. `spread`: over the seconds of a minute. Medians of the
rounds; the worst of all of them.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.conf import settings

from scaling_kit import recipes
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running

if TYPE_CHECKING:
    from scaling_kit.lease import Lease
    from scaling_kit.scheduler.schedule import Schedule

SAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"- command: `{shlex.join(['python', *sys.argv])}`")
    print(f"- machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; Django {django.__version__}")
    with project() as lease:
        at_once, spread, single = [], [], []
        for _ in range(options.rounds):
            at_once.append(lateness(at_the_same_second(options.schedules), lease))
            spread.append(lateness(over_a_minute(options.schedules), lease))
            single.append(claims_one_by_one(lease))
    print("\n| | p50 ms | p99 ms | worst ms |\n|---|---|---|---|")
    for name, rounds in (
        (f"late, {options.schedules} at once", at_once),
        (f"late, {options.schedules} spread over a minute", spread),
        (f"one claim, {SAMPLES} one by one", single),
    ):
        print(f"| {name} | {row(rounds)} |")
    return 0


@contextmanager
def project() -> Iterator[Lease]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Valkey(folder=Path(folder), port=free_port())
        settings.configure(
            SECRET_KEY="bench",
            USE_TZ=True,
            INSTALLED_APPS=["django_rq", "scaling_kit", "scaling_kit.jobs", "scaling_kit.scheduler"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            SCALING_KIT_REDIS_URL=server.url,
            RQ_QUEUES=recipes.rq_queues(server.url),
            TASKS=recipes.tasks(),
        )
        django.setup()
        logging.disable(logging.INFO)
        with running(server):
            from scaling_kit.lease import Lease
            from scaling_kit.redis import Purpose, client

            lease = Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT), ttl_seconds=300)
            lease.hold()
            yield lease


def at_the_same_second(count: int) -> list[Schedule]:
    """In ten seconds from now."""
    second = int(time.time() + 10) % 60
    return [schedule(f"same-{number}", f"{second} * * * * *") for number in range(count)]


def over_a_minute(count: int) -> list[Schedule]:
    return [schedule(f"spread-{number}", f"{number % 60} * * * * *") for number in range(count)]


def schedule(name: str, expression: str) -> Schedule:
    from bench.nothing import nothing
    from scaling_kit.scheduler.schedule import Schedule
    from scaling_kit.scheduler.timetable import Cron

    return Schedule(name=name, task=nothing, timetable=Cron(expression=expression), overlap="allow")


def lateness(schedules: Sequence[Schedule], lease: Lease) -> list[float]:
    """Seconds from tick to queue, of one tick of each schedule."""
    from scaling_kit.scheduler.claim import state_key
    from scaling_kit.scheduler.ticker import Ticker

    lease.client.flushall()
    lease.hold()
    ticker, ends_at = Ticker(lambda: schedules), time.monotonic() + 75
    while time.monotonic() < ends_at:
        time.sleep(min(0.2, ticker.run(lease)))
        if lease.client.llen("rq:queue:default") >= len(schedules):
            break
    states = [lease.client.hmget(state_key(one.name), "tick", "run_at") for one in schedules]
    return [float(run_at) - int(tick) for tick, run_at in states if run_at]


def claims_one_by_one(lease: Lease) -> list[float]:
    from scaling_kit.scheduler.claim import State, claim

    one, state, taken = schedule("single", "* * * * * *"), State(watermark=0), []
    for tick in range(SAMPLES):
        started = time.perf_counter()
        _, state = claim(lease, one, tick + 1, state)
        taken.append(time.perf_counter() - started)
    return taken


def row(rounds: Sequence[Sequence[float]]) -> str:
    def median_of(share: float) -> float:
        return 1000 * statistics.median(sorted(one)[int(share * len(one))] for one in rounds)

    worst = 1000 * max(max(one) for one in rounds)
    return f"{median_of(0.5):.2f} | {median_of(0.99):.2f} | {worst:.1f}"


if __name__ == "__main__":
    sys.exit(main())
