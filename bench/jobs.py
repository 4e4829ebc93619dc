"""The kit's workers beside stock RQ, Celery, dramatiq and BullMQ, in one run on one Redis with the same jobs.

    python bench/jobs.py [--rounds 5] [--only kit,celery] [--quick] [--save figures.json]

Needs the extra `bench`; BullMQ also npm, which fetches it into a temporary folder. Whoever cannot run here is left
out, and the reason printed. Each round asks all contestants for everything, the next one in the opposite order.
Prints markdown: the medians of the rounds. About half a minute for each contestant and round.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import redis

from bench.race import report
from bench.race.field import Contestant, contestants, versions
from bench.race.measures import QUICK, Found, Plan, take_turn
from bench.race.processes import EndedError, unwind_on_signals
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of names, as in: kit,celery prefork")
    parser.add_argument("--quick", action="store_true", help="a round of few jobs, to see that it works")
    parser.add_argument("--save", type=Path, help="a file for every figure of every round, as JSON")
    options = parser.parse_args()
    unwind_on_signals()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        node_modules = folder / "node_modules"
        chosen = present(contestants(node_modules), options.only)
        server = Valkey(folder=folder / "valkey", port=free_port())
        with running(server):
            client = redis.Redis.from_url(server.url, decode_responses=True)
            for line in report.machine(client, shlex.join(["python", *sys.argv]), versions(node_modules)):
                print(line, flush=True)
            race = Race(chosen, QUICK if options.quick else Plan(), client=client, url=server.url, folder=folder)
            race.run(1 if options.quick else options.rounds)
    for line in report.write(race.found):
        print(line)
    if options.save:
        save(options.save, race.found)
    return 1 if race.failed else 0


def present(field: Sequence[Contestant], only: str) -> list[Contestant]:
    """Those asked for that can run here; says why others cannot."""
    parts = [part.strip() for part in only.split(",") if part.strip()]
    chosen = []
    for contestant in field:
        if parts and not any(part in contestant.name for part in parts):
            continue
        if reason := contestant.why_absent():
            print(f"- left out: {contestant.name}: {reason}", flush=True)
        else:
            chosen.append(contestant)
    if not chosen:
        sys.exit("No contestant is left.")
    return chosen


class Race:
    """Every round asks all of them; one that fails is not asked again."""

    def __init__(self, field: Sequence[Contestant], plan: Plan, *, client: redis.Redis, url: str, folder: Path) -> None:
        self.plan = plan
        self.client = client
        self.url = url
        self.folder = folder
        self.found: dict[Contestant, list[Found]] = {contestant: [] for contestant in field}
        self.failed: set[Contestant] = set()

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            for contestant in list(self.found) if number % 2 == 0 else reversed(self.found):
                if contestant not in self.failed:
                    print(f"round {number + 1} of {rounds}: {contestant.name}", file=sys.stderr, flush=True)
                    self._ask(contestant)

    def _ask(self, contestant: Contestant) -> None:
        try:
            found = take_turn(contestant, self.plan, server=self.client, url=self.url, folder=self.folder)
        except (TimeoutError, EndedError) as error:
            self.failed.add(contestant)
            print(f"- failed: {contestant.name}: {error}", flush=True)
        else:
            self.found[contestant].append(found)


def save(path: Path, found: Mapping[Contestant, Sequence[Found]]) -> None:
    every = {contestant.name: [asdict(one) for one in rounds] for contestant, rounds in found.items()}
    path.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
