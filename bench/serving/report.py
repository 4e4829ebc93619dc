"""The figures of bench/web.py as markdown. A figure is the median of the rounds."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from bench.race.processes import ROOT
from bench.serving import tools
from bench.serving.field import VIEWS, Contestant
from bench.serving.pressure import CONNECTIONS, Figures

PACKAGES = ("Django", "djangorestframework", "gunicorn", "uvicorn", "uvloop", "redis", "hiredis")
Found = Mapping[tuple[Contestant, int, str], Sequence[Figures]]
GOAL = 1.6
TITLES = {
    "json": "A small JSON answer",
    "jwt": "Behind an access token",
    "feed": "A cached list of 20 articles, 2.9 kB",
}


def head(command: str, valkey_version: str, *, left_out: Mapping[str, str]) -> Iterator[str]:
    yield f"- command: `{command}`"
    yield from machine()
    yield f"- wrk with {CONNECTIONS} kept-alive connections in one thread; Valkey {valkey_version} on loopback"
    yield from (f"- left out: {name}: {why}" for name, why in left_out.items())


def machine() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    yield f"- machine: {cores} cores; load average at the start {load:.2f}"
    if load > cores / 4:
        yield "- **the machine was not quiet: take these figures for no more than a sign**"
    yield f"- versions: {', '.join([*_python_versions(), *tools.versions()])}, kit at {_revision()}"


def write(
    found: Found, megabytes: Mapping[tuple[Contestant, int], float], *, failed: Mapping[str, str]
) -> Iterator[str]:
    yield from (f"- failed: {name}: {why}" for name, why in failed.items())
    for view in VIEWS:
        yield f"\n### {TITLES[view]}\n"
        yield from _table(view, found)
    yield "\n### Memory\n\nMB of all its processes after the last round (PSS: shared pages counted once).\n"
    yield from _memory(megabytes)
    yield "\n### Requests per second in each round\n"
    for (contestant, workers, view), rounds in found.items():
        every = ", ".join(_number(each.per_second) for each in rounds)
        yield f"- {contestant.name}, {workers} worker(s), {view}: {every}"
    yield "\n### How each was configured\n"
    yield from (f"- {each.name}: {each.configured}" for each in dict.fromkeys(key[0] for key in found))


def _table(view: str, found: Found) -> Iterator[str]:
    one, two = ("req/s", "p50 ms", "p99 ms", "CPU µs"), ("2 workers: req/s", "p50 ms", "p99 ms", "CPU µs")
    yield row("", *one, *two, f"2 : 1 (goal ≥ {GOAL})")
    yield row("---", *["---:"] * 9)
    for contestant in dict.fromkeys(key[0] for key in found if key[2] == view):
        single, double = (found.get((contestant, workers, view), ()) for workers in (1, 2))
        yield row(contestant.name, *_cells(single), *_cells(double), _ratio(single, double))


def _cells(rounds: Sequence[Figures]) -> Iterator[str]:
    for name in ("per_second", "p50_ms", "p99_ms", "cpu_us"):
        yield _number(statistics.median(getattr(each, name) for each in rounds)) if rounds else "-"


def _ratio(single: Sequence[Figures], double: Sequence[Figures]) -> str:
    """The median of the rounds' ratios: both of a round were measured within seconds of each other."""
    ratios = [two.per_second / one.per_second for one, two in zip(single, double, strict=False)]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def _memory(megabytes: Mapping[tuple[Contestant, int], float]) -> Iterator[str]:
    yield row("", "1 worker", "2 workers")
    yield row("---", "---:", "---:")
    for contestant in dict.fromkeys(key[0] for key in megabytes):
        values = [megabytes.get((contestant, workers)) for workers in (1, 2)]
        yield row(contestant.name, *(f"{value:.0f}" if value else "-" for value in values))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _python_versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"no {package}"


def _revision() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "no commit"
