"""What is measured, one function each. The same for every contestant, with a worker that is warm.

A backlog is made while the worker's processes are stopped (SIGSTOP), so that producer and worker do not share the
machine; the worker then goes on with a full queue.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.race.field import Contestant
from bench.race.marks import ENVIRONMENT, Mark, Marks
from bench.race.processes import Sender, Spent, Tree, sender, spent, worker
from scaling_kit.testing import wait_until

MICRO = 1e6
MILLI = 1e3
# After the last job's body the worker still records its end, and may then do nothing for a moment.
SETTLE_SECONDS = 0.3
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done in a turn."""

    noop_seconds: float = 4.0  # the number of no-op jobs is chosen to take about so long
    naps: int = 200  # times the width of the contestant
    samples: int = 100  # of the start latency, one each 50 ms
    pace_seconds: float = 0.05
    delayed: int = 30
    delayed_over_seconds: float = 3.0
    watched: int = 50  # jobs whose commands are looked at with MONITOR
    enqueued: int = 1000
    idle_seconds: float = 3.0  # CPU is told in ticks of 10 ms


QUICK = Plan(
    noop_seconds=1.0, naps=30, samples=30, delayed=12, delayed_over_seconds=1.2, enqueued=300, idle_seconds=1.0
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A contestant whose worker and producer run."""

    contestant: Contestant
    plan: Plan
    tree: Tree
    sender: Sender
    marks: Marks
    server: redis.Redis


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """How a worker got through a full queue."""

    marks: list[Mark]
    worker_cpu_seconds: float
    server: Spent

    @property
    def seconds(self) -> float:
        """From the start of the first job to the end of the last."""
        return max(mark.ended_at for mark in self.marks) - min(mark.started_at for mark in self.marks)

    @property
    def per_second(self) -> float:
        return len(self.marks) / self.seconds


@dataclass(frozen=True, kw_only=True)
class Found:
    """The figures of one turn, by the names that report.py knows, and what the worker said to Redis, per job."""

    figures: dict[str, float]
    commands: dict[str, float]


def take_turn(contestant: Contestant, plan: Plan, *, server: redis.Redis, url: str, folder: Path) -> Found:
    """Measure everything once, on an empty Redis. Raises `TimeoutError` or `EndedError` if the contestant fails."""
    server.flushdb()
    marks = Marks(folder / "marks")
    environment = {**contestant.environment, "BENCH_REDIS_URL": url, ENVIRONMENT: str(marks.path)}
    log = folder / contestant.name.replace(" ", "-")
    with sender(contestant.sender, environment, log.with_suffix(".sender.log")) as producer:
        with worker(contestant.worker, environment, log.with_suffix(".log")) as tree:
            turn = Turn(contestant=contestant, plan=plan, tree=tree, sender=producer, marks=marks, server=server)
            rate = warm_up(turn)
            figures = idle(turn) | noops(turn, rate) | naps(turn) | latency(turn) | lateness(turn)
            commands = dialogue(turn)
        figures |= enqueuing(producer, plan, server)
    figures["client_commands"] = sum(commands.values())
    return Found(figures=figures, commands=commands)


def warm_up(turn: Turn) -> float:
    """Have everything loaded; return the jobs per second to expect."""
    turn.marks.clear()
    turn.sender.order("send", count=20)
    _wait_for(turn, 20)
    return max(work_off(turn, "noop", 40).per_second, work_off(turn, "noop", 40).per_second)


def idle(turn: Turn) -> dict[str, float]:
    """What a worker costs that has nothing to do."""
    cpu, before = turn.tree.cpu_seconds(), spent(turn.server)
    time.sleep(turn.plan.idle_seconds)
    used = spent(turn.server).since(before)
    return {
        "idle_cpu_ms_per_second": (turn.tree.cpu_seconds() - cpu) * MILLI / turn.plan.idle_seconds,
        "idle_reads_per_second": used.reads / turn.plan.idle_seconds,
        "idle_server_ms_per_second": used.cpu_seconds * MILLI / turn.plan.idle_seconds,
    }


def noops(turn: Turn, rate: float) -> dict[str, float]:
    count = max(50, min(20_000, round(rate * turn.plan.noop_seconds)))
    backlog = work_off(turn, "noop", count)
    return {
        "noop_per_second": backlog.per_second,
        "worker_cpu_us": backlog.worker_cpu_seconds * MICRO / count,
        "server_cpu_us": backlog.server.cpu_seconds * MICRO / count,
        "reads": backlog.server.reads / count,
        "commands": backlog.server.commands / count,
    }


def naps(turn: Turn) -> dict[str, float]:
    backlog = work_off(turn, "nap", turn.plan.naps * turn.contestant.width)
    return {"nap_per_second": backlog.per_second}


def latency(turn: Turn) -> dict[str, float]:
    """From before the call that enqueues to the first line of the job, on a worker that waits."""
    turn.marks.clear()
    turn.sender.order("send_paced", count=turn.plan.samples, every_seconds=turn.plan.pace_seconds)
    return _delays("latency", turn, turn.plan.samples)


def lateness(turn: Turn) -> dict[str, float]:
    """From when a delayed job was to start to when it did. Negative: too early (RQ keeps whole seconds)."""
    turn.marks.clear()
    step = turn.plan.delayed_over_seconds / turn.plan.delayed
    turn.sender.order("send_at", delays=[1.0 + number * step for number in range(turn.plan.delayed)])
    return _delays("lateness", turn, turn.plan.delayed)


def dialogue(turn: Turn) -> dict[str, float]:
    """The commands that the worker sent, per job, by name; what scripts do inside the server is not among them."""
    said: Counter[str] = Counter()
    with turn.server.monitor() as monitor:
        with _backlog_made(turn, "noop", turn.plan.watched):
            turn.server.echo("begin")
        _wait_for(turn, turn.plan.watched)
        time.sleep(SETTLE_SECONDS)
        turn.server.echo("end")
        listening = False
        for heard in monitor.listen():
            name, _, argument = heard["command"].partition(" ")
            if name.upper() == "ECHO":
                if argument == "end":
                    break
                listening = True
            elif listening and heard["client_type"] != "lua":
                said[name.upper()] += 1
    return {name: count / turn.plan.watched for name, count in said.items()}


def enqueuing(producer: Sender, plan: Plan, server: redis.Redis) -> dict[str, float]:
    """What it costs to enqueue, with no worker about."""
    producer.order("send", count=50)
    before = spent(server)
    single = producer.order("send", count=plan.enqueued)
    used = spent(server).since(before)
    found = {
        "enqueue_per_second": plan.enqueued / single["seconds"],
        "enqueue_cpu_us": single["cpu_seconds"] * MICRO / plan.enqueued,
        "enqueue_server_us": used.cpu_seconds * MICRO / plan.enqueued,
        "enqueue_reads": used.reads / plan.enqueued,
    }
    if producer.can_send_many:
        many = producer.order("send_many", count=plan.enqueued)
        found["bulk_per_second"] = plan.enqueued / many["seconds"]
        found["bulk_cpu_us"] = many["cpu_seconds"] * MICRO / plan.enqueued
    return found


def work_off(turn: Turn, name: str, count: int) -> Backlog:
    """Fill the queue while the worker is stopped; let it go on, and wait until all is done."""
    with _backlog_made(turn, name, count):
        cpu, before = turn.tree.cpu_seconds(), spent(turn.server)
    _wait_for(turn, count)
    time.sleep(SETTLE_SECONDS)
    return Backlog(
        marks=turn.marks.read(),
        server=spent(turn.server).since(before),
        worker_cpu_seconds=turn.tree.cpu_seconds() - cpu,
    )


@contextmanager
def _backlog_made(turn: Turn, name: str, count: int) -> Iterator[None]:
    turn.marks.clear()
    with turn.tree.suspended():
        turn.sender.order("send", name=name, count=count)
        yield


def _delays(name: str, turn: Turn, count: int) -> dict[str, float]:
    _wait_for(turn, count)
    delays = sorted((mark.started_at - mark.due_at) * MILLI for mark in turn.marks.read())
    return {f"{name}_p50_ms": _percentile(delays, 50), f"{name}_p99_ms": _percentile(delays, 99)}


def _percentile(ordered: list[float], percent: int) -> float:
    """The nearest rank."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def _wait_for(turn: Turn, count: int) -> None:
    def done() -> bool:
        turn.tree.check()
        return turn.marks.count() >= count

    wait_until(done, timeout_seconds=PATIENCE_SECONDS, what=f"{turn.contestant.name} has done {count} jobs")
