"""`manage.py cluster describe [NAME ...]`: all that the runner knows of its processes."""

from __future__ import annotations

import json as json_module
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper

from scaling_kit.cluster.asking import add_json_argument, insist

HELP = "show all that is known of the processes of this host; without a name, a table of them"
HEADS = ("name", "state", "pid", "workers", "starts", "memory", "cpu")


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME")
    add_json_argument(parser)


def run(*, names: list[str], json: bool, stdout: OutputWrapper, **_: Any) -> int:
    processes = insist("describe", names=names)["processes"]
    if json:
        stdout.write(json_module.dumps(processes, indent=2))
    elif names:
        stdout.write("\n\n".join("\n".join(_lines(process)) for process in processes))
    else:
        stdout.write("\n".join(table([HEADS, *map(_row, processes)])))
    return 0


def _lines(process: dict[str, Any]) -> Iterator[str]:
    shown = process | {
        "since": f"{process['state']} for {time.time() - process['since']:.0f} s",
        "rss_bytes": f"{process['rss_bytes'] / 2**20:.0f} MiB",
        "command": shlex.join(process["command"]),
    }
    width = max(map(len, shown))
    for name, value in shown.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        yield f"{name:<{width}}  {'-' if text in (None, '') else text}"


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(process: dict[str, Any]) -> tuple[str, ...]:
    return (
        process["name"],
        process["state"],
        str(process["pid"] or "-"),
        str(process["workers"] or "-"),
        str(process["starts"]),
        f"{process['rss_bytes'] / 2**20:.0f} MiB",
        f"{process['cpu_seconds']:.0f} s",
    )
