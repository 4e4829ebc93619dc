"""What bench/cache.py measures. Each contestant has a server and two processes of its own, alive for all rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.caching.field import ROOT, Contestant
from bench.race.processes import EndedError, spent
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import die_with_parent, running

MICRO = 1e6
MILLI = 1e3
PROCESSES = 2
THREADS = 4
HITS = ("function", "view", "request")
WRITES = ("save", "atomic_save", "update")


@dataclass(frozen=True, kw_only=True)
class Plan:
    hit_seconds: float = 1.0
    write_seconds: float = 0.7
    throughput_seconds: float = 2.0
    dependents: int = 100_000


QUICK = Plan(hit_seconds=0.2, write_seconds=0.2, throughput_seconds=0.3, dependents=5000)


class Performer:
    """One process of a contestant. See performer.py for what it understands."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.can: list[str] = self.answer()["can"]

    def order(self, act: str, **arguments: Any) -> dict[str, float]:
        self.begin(act, **arguments)
        return self.answer()

    def begin(self, act: str, **arguments: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"act": act, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise EndedError(f"a process ended: {self._process.args!r}")
        return dict(json.loads(line))


@dataclass(frozen=True, kw_only=True)
class Band:
    """A contestant, ready."""

    contestant: Contestant
    server: redis.Redis
    performers: list[Performer]


@contextmanager
def band(contestant: Contestant, *, folder: Path, database_url: str) -> Iterator[Band]:
    server = Valkey(folder=folder / contestant.name.replace(" ", "-"), port=free_port(), persistent=False)
    environment = contestant.environment(redis_url=server.url, database_url=database_url)
    with ExitStack() as stack:
        stack.enter_context(running(server))
        performers = [stack.enter_context(_performer(environment)) for _ in range(PROCESSES)]
        yield Band(contestant=contestant, server=redis.Redis.from_url(server.url), performers=performers)


@contextmanager
def _performer(environment: dict[str, str]) -> Iterator[Performer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.caching.performer"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # ctrl-C is for us; we end them
        preexec_fn=die_with_parent,
    )
    try:
        yield Performer(process)
    finally:
        process.kill()
        process.wait()


def take_turn(band: Band, plan: Plan) -> dict[str, float]:
    """Everything once, on an empty Redis."""
    band.server.flushall()
    found: dict[str, float] = {}
    for act in HITS:
        found |= _cost(band, act, plan.hit_seconds)
    for act in ("function", "request"):
        found |= _throughput(band, act, plan.throughput_seconds)
    for act in WRITES:
        found |= _cost(band, act, plan.write_seconds)
    return found


def one_write(band: Band, count: int) -> dict[str, float]:
    """A save() on which so many entries depend: how long it takes, and how long another client waits meanwhile."""
    performer = band.performers[0]
    if "hoard" not in performer.can:
        return {}
    band.server.flushall()
    performer.order("save", warm_up=3)
    performer.order("hoard", count=count)
    keys = band.server.dbsize()
    with _pinging(band.server) as pings:
        time.sleep(0.1)
        seconds = performer.order("save")["seconds"]
        time.sleep(0.1)
    return {"one_write_ms": seconds * MILLI, "longest_ping_ms": max(pings) * MILLI, "keys": float(keys)}


def _cost(band: Band, act: str, seconds: float) -> dict[str, float]:
    """Per call, one after the other in one process: client and server CPU, wall, round trips."""
    performer = band.performers[0]
    if act not in performer.can:
        return {}
    performer.order(act, warm_up=5)
    before = spent(band.server)
    done = performer.order(act, seconds=seconds)
    used = spent(band.server).since(before)
    count = done["count"]
    return {
        f"{act}_us": done["seconds"] * MICRO / count,
        f"{act}_cpu_us": done["cpu_seconds"] * MICRO / count,
        f"{act}_server_us": used.cpu_seconds * MICRO / count,
        f"{act}_round_trips": used.reads / count,
    }


def _throughput(band: Band, act: str, seconds: float) -> dict[str, float]:
    if act not in band.performers[0].can:
        return {}
    for performer in band.performers:
        performer.order(act, threads=THREADS, warm_up=1)
    for performer in band.performers:
        performer.begin(act, threads=THREADS, seconds=seconds)
    done = [performer.answer() for performer in band.performers]
    return {f"{act}_per_second": sum(each["count"] / each["seconds"] for each in done)}


@contextmanager
def _pinging(server: redis.Redis) -> Iterator[list[float]]:
    """How long each PING took, one after the other, in the body."""
    took: list[float] = []
    over = threading.Event()

    def ping() -> None:
        while not over.is_set():
            begun_at = time.perf_counter()
            server.ping()
            took.append(time.perf_counter() - begun_at)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()
