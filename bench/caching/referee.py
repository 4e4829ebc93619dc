"""Runs cases for the contestant that the environment says, and prints a line of JSON for each.

    python -m bench.caching.referee cases '["a save()"]'
    python -m bench.caching.referee write 'killed after commit'

    python -m bench.caching.referee read ''

The first one starts a Valkey of its own, which the writers and readers it starts use as well.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.management import call_command

from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running

if TYPE_CHECKING:
    from bench.caching.cases import Case
    from bench.caching.stage import Stage


def main() -> None:
    what, argument = sys.argv[1:]
    if what == "cases":
        judge(json.loads(argument))
        return
    django.setup()
    if what == "write":
        write(argument)
    else:
        read()


def judge(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        persistent = os.environ.get("CACHING_PERSISTENT") == "1"
        server = Valkey(folder=Path(folder), port=free_port(), persistent=persistent)
        os.environ["CACHING_REDIS_URL"] = server.url
        with running(server) as process:
            django.setup()
            call_command("migrate", run_syncdb=True, verbosity=0)
            from bench.caching.cases import CASES
            from bench.caching.stage import Stage

            stage = Stage(server, process)
            try:
                for case in CASES:
                    if case.name in names:
                        print(json.dumps({"case": case.name, **verdict(case, stage)}), flush=True)
            finally:
                stage.end()


def verdict(case: Case, stage: Stage) -> dict[str, str]:
    try:
        stage.reset()
        result = case.run(stage)
    except Exception as error:
        return {"result": "err", "why": repr(error)}
    if isinstance(result, str):
        return {"result": result}
    return {"result": "✓" if result else "✗"}


def write(fault: str) -> None:
    from django.db import connection, transaction

    from bench.caching.cases import retitled
    from bench.caching.field import library

    library()  # its signal receivers
    if fault.startswith("misses"):
        print(misses(float(fault.split()[1])))
        return
    article = retitled()
    connection._commit = _fatal(connection._commit, waits=fault.startswith("waits"))  # type: ignore[method-assign]
    with transaction.atomic():
        article.save()


def read() -> None:
    """Whenever a line comes; null if that fails."""
    from bench.caching.stage import Reader

    reader = Reader()
    for _ in sys.stdin:
        answer = None
        with suppress(Exception):
            answer = reader.read()
        print(json.dumps(answer), flush=True)


def misses(begin_at: float) -> int:
    from bench.caching.stage import Reader, computations

    return computations(Reader(), 12, begin_at)


def _fatal(commit: Callable[[], Any], *, waits: bool) -> Callable[[], None]:
    """Has the row committed, and this process end as by kill -9 before anything else."""

    def commit_and_end() -> None:
        if waits:
            print("about to commit", flush=True)
            sys.stdin.readline()
        commit()
        os.kill(os.getpid(), signal.SIGKILL)

    return commit_and_end


if __name__ == "__main__":
    main()
