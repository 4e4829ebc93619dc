"""What caches get wrong: one case after the other, for the kit and for other libraries, each in processes of its own.

    python bench/cache_cases.py [--only kit,cachalot] [--cases 'a ,f stale'] [--why]

Needs the extra `bench`. One app, one PostgreSQL, the same data and the same read: a list of 20 rows with a nested
author and tags, through a serializer and a view of REST framework. Each library has a Valkey of its own. Whoever
cannot run here is left out, and the reason printed. About a minute for each contestant.

Prints markdown. Exit status 1 if the kit was wrong in a case in which it claims to be right.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import django

from bench.caching.field import contestants, present, uncached, versions
from bench.race.processes import unwind_on_signals
from scaling_kit.embedded import Postgres, free_port
from scaling_kit.testing import running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of names of contestants")
    parser.add_argument("--cases", default="", help="beginnings of names of cases")
    parser.add_argument("--why", action="store_true", help="say which exceptions stand behind err")
    options = parser.parse_args()
    unwind_on_signals()
    field = present(contestants(), options.only)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user when this is root
        database = Postgres(folder=Path(folder) / "postgres", port=free_port(), durable=False)
        with running(database):
            # The list of cases needs Django; nothing is run in this process.
            os.environ.update(uncached().environment(redis_url="redis://127.0.0.1:1", database_url=database.url))
            django.setup()
            from bench.caching import verdicts

            print(f"- command: `{shlex.join(['python', *sys.argv])}`")
            print(f"- versions: {', '.join(versions())}", flush=True)
            cases = verdicts.chosen(options.cases)
            found = {each: verdicts.of(each, cases, database.url) for each in field}
    for line in verdicts.table(cases, found):
        print(line)
    if options.why:
        for line in verdicts.reasons(found):
            print(line)
    return 1 if verdicts.is_kit_wrong(found) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
