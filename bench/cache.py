"""What a hit and a write cost: the kit's cache beside other libraries, in one run, with the same data and read.

    python bench/cache.py [--rounds 5] [--only kit,cacheops] [--quick] [--markdown figures.md] [--save figures.json]

Needs the extra `bench`. The read is that of bench/cache_cases.py. Each contestant has two processes and a Valkey of
its own, alive for the whole run, and does nothing while another one is measured. Each round asks all contestants for
everything, the next one in the opposite order. Prints markdown: the medians of the rounds, and the goals beside them.
About ten seconds for each contestant and round.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import django
from django.core.management import call_command

from bench.caching import report
from bench.caching.field import Contestant, constant, contestants, delete_pattern, present, uncached
from bench.caching.measures import QUICK, Band, Plan, band, one_write, take_turn
from bench.race.processes import unwind_on_signals
from scaling_kit.embedded import Postgres, free_port
from scaling_kit.testing import running

# As `plain DEL`, when nothing is written and one key is known.
LEFT_OUT = "plain DEL on_commit"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of names, as in: kit,cacheops")
    parser.add_argument("--quick", action="store_true", help="a short round, to see that it works")
    parser.add_argument("--markdown", type=Path, help="a file for what is printed")
    parser.add_argument("--save", type=Path, help="a file for every figure of every round, as JSON")
    options = parser.parse_args()
    unwind_on_signals()
    plan = QUICK if options.quick else Plan()
    field = [each for each in [uncached(), constant(), *contestants(), delete_pattern()] if each.name != LEFT_OUT]
    with ExitStack() as stack:
        bands = assemble(present(field, options.only), stack)
        lines = list(report.head(shlex.join(["python", *sys.argv]), bands[0].server.info()["valkey_version"]))
        found, dependents = play(bands, plan, 1 if options.quick else options.rounds)
    lines += report.write(found, dependents)
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")
    if options.save:
        every = {each.name: [*rounds, dependents.get(each, {})] for each, rounds in found.items()}
        options.save.write_text(json.dumps(every, indent=1))
    return 0


def assemble(field: list[Contestant], stack: ExitStack) -> list[Band]:
    """A database with the rows in it, and all contestants ready to begin."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    folder.chmod(0o755)  # PostgreSQL runs as another user when this is root
    database = Postgres(folder=folder / "postgres", port=free_port(), durable=False)
    stack.enter_context(running(database))
    fill(database.url)
    return [stack.enter_context(band(each, folder=folder, database_url=database.url)) for each in field]


def fill(database_url: str) -> None:
    # With the kit's tables: its strict mode has one.
    os.environ.update(contestants()[0].environment(redis_url="redis://127.0.0.1:1", database_url=database_url))
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.db import connection

    from bench.caching.data import FILL

    with connection.cursor() as cursor:
        cursor.execute(FILL)
    connection.close()


Figures = dict[str, float]


def play(
    bands: list[Band], plan: Plan, rounds: int
) -> tuple[dict[Contestant, list[Figures]], dict[Contestant, Figures]]:
    """The figures of every round, and those of the one write."""
    found: dict[Contestant, list[Figures]] = {each.contestant: [] for each in bands}
    for number in range(rounds):
        for each in bands if number % 2 == 0 else reversed(bands):
            print(f"round {number + 1} of {rounds}: {each.contestant.name}", file=sys.stderr, flush=True)
            found[each.contestant].append(take_turn(each, plan))
    dependents = {each.contestant: one_write(each, plan.dependents) for each in bands}
    return found, {contestant: figures for contestant, figures in dependents.items() if figures}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
