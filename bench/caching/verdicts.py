"""Has the cases run, in processes of the contestants, and puts the results into a table."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from bench.caching.cases import CASES, Case
from bench.caching.field import ROOT, Contestant
from scaling_kit.testing import die_with_parent

PATIENCE_SECONDS = 60.0
Verdicts = Mapping[str, Mapping[str, str]]

# What the kit's page says it cannot see, and what it says only strict mode survives.
NOT_CLAIMED = {"b written outside Django", "r the same, in the first write it sees"}
ONLY_STRICT = {"f writer killed after COMMIT", "f the same, read just before COMMIT"}


def chosen(beginnings: str) -> list[Case]:
    parts = [part.strip() for part in beginnings.split(",") if part.strip()]
    return [case for case in CASES if not parts or any(case.name.startswith(part) for part in parts)]


def of(contestant: Contestant, cases: Sequence[Case], database_url: str) -> Verdicts:
    """One process for most cases, one more for each that leaves something broken behind."""
    batches = [[case for case in cases if not case.alone], *([case] for case in cases if case.alone)]
    found: dict[str, Mapping[str, str]] = {}
    for batch in filter(None, batches):
        print(f"{contestant.name}: {batch[0].name}", file=sys.stderr, flush=True)
        found.update(_judged(contestant, batch, database_url))
    return found


def table(cases: Sequence[Case], found: Mapping[Contestant, Verdicts]) -> Iterator[str]:
    yield f"\n| | {' | '.join(each.name for each in found)} |"
    yield f"|---|{'---|' * len(found)}"
    for case in cases:
        yield f"| {case.name} | {' | '.join(verdicts[case.name]['result'] for verdicts in found.values())} |"
    yield "\n✓ right, ✗ wrong: stale, or not committed; err: an exception; -: does not apply; after: since then.\n"
    for each in found:
        yield f"- {each.name}: {each.configured}"


def reasons(found: Mapping[Contestant, Verdicts]) -> Iterator[str]:
    for each, verdicts in found.items():
        for name, verdict in verdicts.items():
            if "why" in verdict:
                yield f"- {each.name}, {name}: {verdict['why']}"


def is_kit_wrong(found: Mapping[Contestant, Verdicts]) -> bool:
    return any(
        not _is_right(verdict["result"])
        for each, verdicts in found.items()
        if each.library == "kit"
        for name, verdict in verdicts.items()
        if name not in NOT_CLAIMED and (name not in ONLY_STRICT or "strict" in each.name)
    )


def _is_right(result: str) -> bool:
    return not result.startswith(("✗", "err", "after"))


def _judged(contestant: Contestant, cases: Sequence[Case], database_url: str) -> Verdicts:
    """A process that says nothing for a minute, or ends, is asked no more; the next one takes what is left."""
    found: dict[str, Mapping[str, str]] = {}
    left = list(cases)
    while left:
        with _referee(contestant, left, database_url) as process:
            for case in list(left):
                verdict = _next_line(process)
                if verdict is None:
                    process.kill()
                    found[case.name] = {"result": "err", "why": "ended, or hung for a minute"}
                    left.remove(case)
                    break
                found[verdict.pop("case")] = verdict
                left.remove(case)
            process.kill()
    return found


def _referee(contestant: Contestant, cases: Sequence[Case], database_url: str) -> subprocess.Popen[str]:
    environment = contestant.environment(redis_url="", database_url=database_url)
    persistent = {"CACHING_PERSISTENT": "1" if cases[0].persistent else "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.caching.referee", "cases", json.dumps([case.name for case in cases])],
        cwd=ROOT,
        env={**os.environ, **environment, **persistent},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


def _next_line(process: subprocess.Popen[str]) -> dict[str, str] | None:
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(PATIENCE_SECONDS):
            return None
    line = process.stdout.readline()
    return dict(json.loads(line)) if line else None
