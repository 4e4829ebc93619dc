"""The figures as markdown, and the goals beside them. A figure is the median of the rounds."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.caching.field import ROOT, Contestant, versions

Rounds = Mapping[Contestant, Sequence[Mapping[str, float]]]
BARE = "plain TTL"
NONE = "no cache"


@dataclass(frozen=True, kw_only=True)
class Table:
    """`columns` are pairs of heading and figure."""

    title: str
    about: str
    columns: tuple[tuple[str, str], ...]


TABLES = (
    Table(
        title="A hit",
        about="µs for a list of 20 rows, 2.9 kB of JSON. Function: the rows. View: a view of REST framework, called. "
        "Request: the same through Django's WSGI handler, with no middleware. CPU: user and system time of the "
        "process. Round trips: reads of the server.",
        columns=(
            ("function µs", "function_us"),
            ("CPU", "function_cpu_us"),
            ("server CPU", "function_server_us"),
            ("round trips", "function_round_trips"),
            ("view µs", "view_us"),
            ("CPU", "view_cpu_us"),
            ("round trips", "view_round_trips"),
            ("request µs", "request_us"),
            ("CPU", "request_cpu_us"),
        ),
    ),
    Table(
        title="A write",
        about="µs, one after the other, PostgreSQL included (no fsync).",
        columns=(
            ("save() µs", "save_us"),
            ("CPU", "save_cpu_us"),
            ("round trips", "save_round_trips"),
            ("save() in atomic µs", "atomic_save_us"),
            ("CPU", "atomic_save_cpu_us"),
            ("round trips", "atomic_save_round_trips"),
            ("update() µs", "update_us"),
            ("CPU", "update_cpu_us"),
            ("round trips", "update_round_trips"),
        ),
    ),
    Table(
        title="Hits per second, 2 processes with 4 threads each",
        about="They share the machine with Redis and, where they ask it, with PostgreSQL.",
        columns=(("functions/s", "function_per_second"), ("requests/s", "request_per_second")),
    ),
)


def head(command: str, server_version: str) -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    yield f"- command: `{command}`"
    yield f"- machine: {cores} cores; load average at the start {load:.2f}"
    if load > cores / 4:
        yield "- **the machine was not quiet: take these figures for no more than a sign**"
    yield f"- server: Valkey {server_version} on loopback, not persistent; PostgreSQL on loopback, no fsync"
    yield f"- versions: {', '.join(versions())}, kit at {_revision()}"


def write(rounds: Rounds, dependents: Mapping[Contestant, Mapping[str, float]]) -> Iterator[str]:
    medians = {each: _medians(found) for each, found in rounds.items() if found}
    for table in TABLES:
        yield f"\n### {table.title}\n\n{table.about}\n"
        yield _row("", *(heading for heading, _ in table.columns))
        yield _row("---", *["---:"] * len(table.columns))
        for each, figures in medians.items():
            yield _row(each.name, *(_number(figures.get(key)) for _, key in table.columns))
    yield from _dependents(dependents)
    yield from _goals({each.name: figures for each, figures in medians.items()}, dependents)
    yield from _spread(rounds)
    yield "\n### How each was configured\n"
    yield from (f"- {each.name}: {each.configured}" for each in {**medians, **dependents})


def _dependents(found: Mapping[Contestant, Mapping[str, float]]) -> Iterator[str]:
    yield "\n### One save() with many dependent entries\n\nOnce each. PING: of another client meanwhile, the longest.\n"
    yield _row("", "keys in Redis", "save() ms", "longest PING ms")
    yield _row("---", "---:", "---:", "---:")
    for each, figures in found.items():
        yield _row(each.name, *(_number(figures.get(key)) for key in ("keys", "one_write_ms", "longest_ping_ms")))


def _goals(
    medians: Mapping[str, Mapping[str, float]], dependents: Mapping[Contestant, Mapping[str, float]]
) -> Iterator[str]:
    yield "\n### Goals\n\nA view beside one that does a bare cache.get (plain TTL), and beside none; wall time.\n"
    headings = ("view, of bare", "request, of bare", "view, of none", "request, of none", "round trips of a write")
    yield _row("", *headings, "ms with many dependents")
    yield _row("---", *["---"] * (len(headings) + 1))
    for each, figures in dependents.items():
        if each.library == "kit":
            yield _row(each.name, *_kept(each.name, medians, figures["one_write_ms"]))


def _kept(name: str, medians: Mapping[str, Mapping[str, float]], one_write_ms: float) -> Iterator[str]:
    mine, bare, none = medians[name], medians.get(BARE), medians.get(NONE)
    share, trips = (0.3 if "nearby" in name else 0.75), (2 if "strict" in name else 1)
    for key in ("view_us", "request_us"):
        yield _against(mine[key] / bare[key], share) if bare else "-"
    for key in ("view_us", "request_us"):
        yield _against(none[key] / mine[key], 20, at_most=False) if none else "-"
    yield _against(round(max(mine[f"{act}_round_trips"] for act in ("save", "atomic_save", "update")), 1), trips)
    yield _against(one_write_ms, 5)


def _against(value: float, goal: float, *, at_most: bool = True) -> str:
    reached = value <= goal if at_most else value >= goal
    return f"{_number(value)} ({'≤' if at_most else '≥'} {goal}{'' if reached else ', missed'})"


def _spread(rounds: Rounds) -> Iterator[str]:
    yield "\n### Request µs in each round\n"
    for each, found in rounds.items():
        yield f"- {each.name}: {', '.join(_number(one.get('request_us')) for one in found)}"


def _medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _revision() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "no commit"
