"""Requests per second: the kit's web processes beside other servers of Django, and Node's cluster module.

    python bench/web.py [--rounds 5] [--seconds 2] [--only kit,node] [--markdown figures.md] [--save figures.json]

Needs the extras `demo` and `bench`. Fetches wrk (out of Debian's package, if it is not installed), granian and Node's
packages into `.run/bench`; who cannot run here is left out, and the reason printed. Three views: a small JSON, one
behind an access token (verified, and Redis asked whether it was revoked), and a cached list of 20 articles. Each server
runs with one and with two workers for the whole time, and does nothing while another one is measured. wrk runs on the
same cores. Each round asks all of them, the next one in the opposite order. Prints markdown: the medians of the rounds.

Seven minutes with the defaults: 34 measurements of `--seconds` in each round.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import django
import redis
from django.core.management import call_command

from bench.race.processes import EndedError, unwind_on_signals
from bench.serving import report, tools
from bench.serving.field import Contestant, contestants
from bench.serving.pressure import Figures, RefusedError, Serving, press, serving
from bench.serving.tools import in_one_line
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running

WORKERS = (1, 2)
WARM_SECONDS = 1
FEED_KEY = "bench:feed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--only", default="", help="parts of names, as in: kit,granian")
    parser.add_argument("--markdown", type=Path, help="a file for what is printed")
    parser.add_argument("--save", type=Path, help="a file for every figure of every round, as JSON")
    options = parser.parse_args()
    unwind_on_signals()
    with ExitStack() as stack:
        race = Race(stack, options.only)
        lines = list(report.head(shlex.join(["python", *sys.argv]), race.valkey_version, left_out=race.left_out))
        race.run(options.rounds, options.seconds)
        lines += report.write(race.found, race.megabytes, failed=race.failed)
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")
    if options.save:
        save(options.save, race.found)
    return 1 if race.failed else 0


Turn = tuple[Contestant, int, str]
"""A contestant, how many workers it has, and a view."""


class Race:
    """All servers, running. One that fails is not asked again."""

    def __init__(self, stack: ExitStack, only: str) -> None:
        self.found: dict[Turn, list[Figures]] = {}
        self.megabytes: dict[tuple[Contestant, int], float] = {}
        self.failed: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        chosen = self._present(only)
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        valkey = Valkey(folder=self._folder / "valkey", port=free_port(), persistent=False)
        stack.enter_context(running(valkey))
        self._redis = redis.Redis.from_url(valkey.url)
        self.valkey_version = str(self._redis.info()["valkey_version"])
        self._environment, self._token = furnish(self._folder, valkey.url)
        self._servers = [self._start(each, workers, stack) for each in chosen for workers in WORKERS]

    def run(self, rounds: int, seconds: int) -> None:
        servers = [server for server in self._servers if server]
        for server in servers:
            self._warm(server)
        for number in range(rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                name = server.contestant.name
                if name not in self.failed:
                    about = f"round {number + 1} of {rounds}: {name}, {server.workers} worker(s)"
                    print(about, file=sys.stderr, flush=True)
                    self._ask(server, seconds)

    def _present(self, only: str) -> list[Contestant]:
        """Those asked for that can run here. Ends if there is nobody, or no wrk."""
        parts = [part.strip() for part in only.split(",") if part.strip()]
        chosen = []
        for each in contestants():
            if parts and not any(part in each.name for part in parts):
                continue
            try:
                each.prepare()
            except tools.MissingError as error:
                self.left_out[each.name] = str(error)
            else:
                chosen.append(each)
        try:
            tools.wrk()
        except tools.MissingError as error:
            sys.exit(str(error))
        if not chosen:
            sys.exit(f"No contestant is left. {self.left_out or ''}")
        return chosen

    def _start(self, contestant: Contestant, workers: int, stack: ExitStack) -> Serving | None:
        print(f"starting {contestant.name}, {workers} worker(s)", file=sys.stderr, flush=True)
        try:
            server = stack.enter_context(
                serving(contestant, workers, environment=self._environment, token=self._token, folder=self._folder)
            )
            if not self._redis.exists(FEED_KEY) and "feed" in contestant.views:
                self._redis.set(FEED_KEY, server.fetch("feed"))
        except (TimeoutError, EndedError, RefusedError) as error:
            self.failed[contestant.name] = in_one_line(error)
            return None
        return server

    def _warm(self, server: Serving) -> None:
        for view in server.contestant.views:
            self._press(server, view, WARM_SECONDS)

    def _ask(self, server: Serving, seconds: int) -> None:
        for view in server.contestant.views:
            figures = self._press(server, view, seconds)
            if figures:
                self.found.setdefault((server.contestant, server.workers, view), []).append(figures)
        if server.contestant.name not in self.failed:
            self.megabytes[server.contestant, server.workers] = server.pss_mb()

    def _press(self, server: Serving, view: str, seconds: int) -> Figures | None:
        try:
            return press(server, view, seconds)
        except (EndedError, RefusedError) as error:
            self.failed[server.contestant.name] = f"{view}, {server.workers} worker(s): {in_one_line(error)}"
            return None


def furnish(folder: Path, redis_url: str) -> tuple[Mapping[str, str], str]:
    """A database with the articles and a user in it. What servers have in their environment, and a token."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "bench.serving.settings",
        "SERVING_DATABASE": str(folder / "database"),
        "SERVING_REDIS_URL": redis_url,
    }
    os.environ.update(environment)
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.conf import settings
    from django.contrib.auth.models import User

    from bench.serving import data
    from scaling_kit.tokens import grants, revocation

    data.fill()
    user = User.objects.create_user("somebody", password=secrets.token_hex())
    beside = {
        "SIGNING_KEY": settings.SIGNING_KEY,
        "EPOCH_KEY": revocation.epoch_key(""),
        "FEED_KEY": FEED_KEY,
    }
    return {**environment, **beside}, grants.begin(user).access


def save(path: Path, found: Mapping[Turn, Sequence[Figures]]) -> None:
    every = {
        f"{contestant.name}, {workers} worker(s), {view}": [asdict(each) for each in rounds]
        for (contestant, workers, view), rounds in found.items()
    }
    path.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
