"""`manage.py cluster logs [NAME ...]`: the last lines of the processes of this host, which the runner has in memory."""

from __future__ import annotations

import json as json_module
import time
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper

from scaling_kit.cluster.asking import insist
from scaling_kit.cluster.output import NAME_WIDTH, REMEMBERED_LINES, clock

HELP = "show the last lines of the processes' output"
FOLLOW_SECONDS = 0.3


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="web, workers, runner ...; default all")
    parser.add_argument(
        "--lines", type=int, default=20, metavar="N", help=f"how many; default 20, at most {REMEMBERED_LINES}"
    )
    parser.add_argument("--timestamps", action="store_true", help="say when each line was written")
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print each line as a JSON object")


def run(
    *, names: list[str], lines: int, timestamps: bool, follow: bool, json: bool, stdout: OutputWrapper, **_: Any
) -> int:
    after = 0
    try:
        while True:
            wanted = REMEMBERED_LINES if after else lines
            for line in insist("logs", names=names, lines=wanted, after=after)["lines"]:
                after = line["number"]
                stdout.write(json_module.dumps(line) if json else _as_text(line, timestamps=timestamps))
            if not follow:
                return 0
            stdout.flush()
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return 0


def _as_text(line: dict[str, Any], *, timestamps: bool) -> str:
    return f"{clock(line['at'])} " * timestamps + f"{line['name']:<{NAME_WIDTH}} | {line['text']}"
