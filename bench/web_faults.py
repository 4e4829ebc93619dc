"""What befalls web processes, under a load that does not wait: the kit beside PM2, stock gunicorn and granian.

    python bench/web_faults.py [--rounds 1] [--seconds 1] [--only kit,PM2] [--scenarios reload,kill]
                               [--boot-seconds 12] [--markdown verdicts.md] [--save verdicts.json]

Needs the extras `demo` and `bench`. Fetches PM2 (from npm) and granian into `.run/bench`; who cannot run here is left
out, and the reason printed. In each scenario each host is started anew with two processes, put under load, and then
reloaded, scaled, stopped or killed. Prints markdown: requests lost, the longest that a client waited, and how the
commands ended. Ten minutes for a round of all, a fifth of it for the release that is slow to boot.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.race.processes import EndedError, unwind_on_signals
from bench.serving import tools, verdicts
from bench.serving.faults import SCENARIOS, Outcome, Scenario, perform
from bench.serving.hosts import HOSTS, Host
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load before and after each event")
    parser.add_argument("--boot-seconds", type=float, default=12.0, help="of the release that is slow to boot")
    parser.add_argument("--only", default="", help="parts of names, as in: kit,PM2")
    parser.add_argument("--scenarios", default="", help="parts of names, as in: reload,kill")
    parser.add_argument("--markdown", type=Path, help="a file for what is printed")
    parser.add_argument("--save", type=Path, help="a file for every outcome, as JSON")
    options = parser.parse_args()
    unwind_on_signals()
    hosts, left_out = present(options.only)
    scenarios = [each for each in SCENARIOS if is_asked_for(each.name, options.scenarios)]
    if not hosts or not scenarios:
        sys.exit(f"Nothing is left to be done. {left_out or ''}")
    lines = list(verdicts.head(shlex.join(["python", *sys.argv]), left_out=left_out))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        valkey = Valkey(folder=Path(name) / "valkey", port=free_port(), persistent=False)
        with running(valkey):
            trials = Trials(Path(name), valkey.url, seconds=options.seconds, boot_seconds=options.boot_seconds)
            for number in range(options.rounds):
                trials.run(scenarios, hosts if number % 2 == 0 else hosts[::-1], f"{number + 1} of {options.rounds}")
    lines += verdicts.write(trials.in_order(scenarios, hosts), trials.failed)
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")
    if options.save:
        save(options.save, trials)
    return 1 if trials.failed else 0


def present(only: str) -> tuple[list[type[Host]], dict[str, str]]:
    """Those asked for that can run here, and why others cannot."""
    chosen, left_out = [], {}
    for host in HOSTS:
        if not is_asked_for(host.name, only):
            continue
        try:
            host.needs()
        except tools.MissingError as error:
            left_out[host.name] = str(error)
        else:
            chosen.append(host)
    return chosen, left_out


def is_asked_for(name: str, asked: str) -> bool:
    parts = [part.strip() for part in asked.split(",") if part.strip()]
    return not parts or any(part in name for part in parts)


class Trials:
    def __init__(self, folder: Path, redis_url: str, *, seconds: float, boot_seconds: float) -> None:
        self.found: dict[tuple[Scenario, type[Host]], list[Outcome]] = {}
        self.failed: dict[tuple[str, str], str] = {}
        self._folder = folder
        self._redis_url = redis_url
        self._seconds = seconds
        self._boot_seconds = boot_seconds

    def run(self, scenarios: Sequence[Scenario], hosts: Sequence[type[Host]], number: str) -> None:
        for scenario in scenarios:
            for host in hosts:
                if scenario.name not in host.cannot:
                    print(f"round {number}: {scenario.name}: {host.name}", file=sys.stderr, flush=True)
                    self._try(scenario, host)

    def in_order(
        self, scenarios: Sequence[Scenario], hosts: Sequence[type[Host]]
    ) -> dict[tuple[Scenario, type[Host]], list[Outcome]]:
        pairs = [(scenario, host) for scenario in scenarios for host in hosts]
        return {pair: self.found[pair] for pair in pairs if pair in self.found}

    def _try(self, scenario: Scenario, kind: type[Host]) -> None:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        host = kind(folder=folder, redis_url=self._redis_url, limits=scenario.limits)
        try:
            outcome = perform(scenario, host, seconds=self._seconds, boot_seconds=self._boot_seconds)
        except (TimeoutError, EndedError, OSError) as error:
            self.failed[scenario.name, kind.name] = tools.in_one_line(error)
        else:
            self.found.setdefault((scenario, kind), []).append(outcome)


def save(path: Path, trials: Trials) -> None:
    every = {
        f"{scenario.name}, {host.name}": [asdict(each) for each in outcomes]
        for (scenario, host), outcomes in trials.found.items()
    }
    path.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
