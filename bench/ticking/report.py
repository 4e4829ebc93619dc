"""The results as a table in markdown."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from bench.ticking.faults import ROOT, Scenario
from bench.ticking.stage import Result

HEADINGS = (
    "scenario",
    "ticks",
    "lost",
    "twice",
    "gaps made up for by one tick",
    "another leads after, s",
    "latest tick, s late",
    "alive",
    "seen",
    "cron-cluster 1.1.3",
)


def head(command: str, valkey: str) -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    packages = ", ".join(f"{name} {version(name)}" for name in ("Django", "redis", "rq", "cronsim"))
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    yield f"- command: `{command}`"
    yield f"- machine: {cores} cores; load average at the start {os.getloadavg()[0]:.2f}"
    yield f"- versions: Valkey {valkey}, Python {platform.python_version()}, {packages}"
    yield f"- the kit at {revision.stdout.strip()}"
    yield ""
    yield _row(*HEADINGS)
    yield _row("---", *["---:"] * 7, "---", "---")


def line(scenario: Scenario, result: Result) -> str:
    verdicts = result.verdicts
    gaps, unanswered = sum(one.gaps for one in verdicts), sum(one.unanswered for one in verdicts)
    return _row(
        scenario.name,
        str(sum(one.expected for one in verdicts)),
        str(sum(one.lost for one in verdicts)),
        str(sum(one.duplicated for one in verdicts)),
        f"{gaps - unanswered} of {gaps}",
        _seconds(result.recovered),
        f"{max(one.late_seconds for one in verdicts):.2f}",
        f"{result.alive} of {result.should_be_alive}",
        "; ".join(result.remarks),
        scenario.peer,
    )


def is_good(result: Result) -> bool:
    nothing_wrong = all(one.lost == one.duplicated == one.unanswered == 0 for one in result.verdicts)
    return nothing_wrong and None not in result.recovered and result.alive == result.should_be_alive


def _seconds(found: Sequence[float | None]) -> str:
    known = sorted(one for one in found if one is not None)
    if not known:
        return "never" if found else "-"
    most = f"{known[0]:.2f}" if len(known) == 1 else f"{known[0]:.2f} to {known[-1]:.2f}"
    return most if len(known) == len(found) else f"{most}, {len(found) - len(known)} times never"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
