"""What became of each host, as markdown: losses are added up over the rounds, the longest is that of all rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.serving import report
from bench.serving.faults import PER_SECOND, Outcome, Scenario
from bench.serving.hosts import Host

Found = Mapping[tuple[Scenario, type[Host]], Sequence[Outcome]]


def head(command: str, *, left_out: Mapping[str, str]) -> Iterator[str]:
    yield f"- command: `{command}`"
    yield from report.machine()
    yield f"- load: {PER_SECOND} requests a second that take 50 ms, sent when due, GET and POST by turns, half of each "
    yield "  on kept connections; nothing is sent twice"
    yield from (f"- left out: {name}: {why}" for name, why in left_out.items())


def write(found: Found, failed: Mapping[tuple[str, str], str]) -> Iterator[str]:
    yield from (f"- failed: {scenario}, {host}: {why}" for (scenario, host), why in failed.items())
    yield "\n### Requests lost, and the longest that a client waited\n"
    yield "Of all rounds together; in brackets those that were on kept connections.\n"
    yield from _table(found, _losses)
    yield "\n### The command, and what was left\n"
    yield "Seconds until it returned (medians), exit status; processes that still answer; ms until a new one did.\n"
    yield from _table(found, _afterwards)
    yield from _complaints(found)
    yield "\n### The scenarios\n"
    yield from (f"- {each.name}: {each.about}" for each in dict.fromkeys(key[0] for key in found))
    yield "\n### How each was configured\n"
    yield from (f"- {each.name}: {each.configured}" for each in dict.fromkeys(key[1] for key in found))


def _complaints(found: Found) -> Iterator[str]:
    said = {(pair, each.said): None for pair, outcomes in found.items() for each in outcomes if each.said}
    if said:
        yield "\n### What commands said that failed\n"
        yield from (f"- {scenario.name}, {host.name}: {words}" for (scenario, host), words in said)


def _table(found: Found, cell: Callable[[Sequence[Outcome]], str]) -> Iterator[str]:
    hosts = list(dict.fromkeys(key[1] for key in found))
    yield report.row("", *(host.name for host in hosts))
    yield report.row("---", *["---"] * len(hosts))
    for scenario in dict.fromkeys(key[0] for key in found):
        cells = [cell(found.get((scenario, host), ())) for host in hosts]
        if any(each != "-" for each in cells):
            yield report.row(scenario.name, *cells)


def _losses(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return "-"
    lost, kept = sum(each.lost for each in outcomes), sum(each.lost_kept_alive for each in outcomes)
    of_these = f" ({kept})" if kept else ""
    every = sum(each.requests for each in outcomes)
    return f"{lost}{of_these} of {every}, {max(each.longest_ms for each in outcomes):.0f} ms"


def _afterwards(outcomes: Sequence[Outcome]) -> str:
    parts = []
    seconds = [each.seconds for each in outcomes if each.seconds is not None]
    if seconds:
        statuses = "/".join(str(status) for status in dict.fromkeys(each.status for each in outcomes))
        parts.append(f"{statistics.median(seconds):.1f} s, status {statuses}")
    left = [each.workers_left for each in outcomes if each.workers_left is not None]
    if left:
        parts.append(f"{min(left)} left")
    back = [each.back_ms for each in outcomes if each.back_ms is not None]
    if back:
        parts.append(f"{statistics.median(back):.0f} ms")
    return ", ".join(parts) or "-"
