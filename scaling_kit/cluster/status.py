"""`manage.py cluster status`: what runs where, for eyes and for scripts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit.cluster.overview import overview
from scaling_kit.redis import RedisError, UnreachableError, ensure_reachable

HELP = "show every process by host and role, the counters, and what each app reports"
WATCH_SECONDS = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the overview as JSON")
    parser.add_argument("--watch", action="store_true", help=f"print again every {WATCH_SECONDS:g} s until Ctrl-C")


def run(*, json: bool, watch: bool, stdout: OutputWrapper, **_: Any) -> int:
    render = as_json if json else as_text
    if not watch:
        stdout.write(render(_fetch()))
        return 0
    try:
        while True:
            stdout.write(CLEAR_SCREEN * stdout.isatty() + _rendered(render))
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return 0


def _rendered(render: Callable[[dict[str, Any]], str]) -> str:
    try:
        return render(_fetch())
    except CommandError as error:
        return str(error)


def _fetch() -> dict[str, Any]:
    try:
        ensure_reachable()
        return overview()
    except (UnreachableError, RedisError) as error:
        raise CommandError(str(error)) from error


def as_json(seen: dict[str, Any]) -> str:
    return json.dumps(seen, indent=2, default=str)


def as_text(seen: dict[str, Any]) -> str:
    sections = [_members(seen), _counters(seen["counters"]), *_apps(seen["apps"])]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _members(seen: dict[str, Any]) -> list[str]:
    if not seen["members"]:
        return ["no process is running"]
    return [line for host in _by_host(seen) for line in host]


def _by_host(seen: dict[str, Any]) -> Iterator[list[str]]:
    for host, members in groupby(seen["members"], key=lambda member: member["host"]):
        yield [f"host {host}", *_table(_member_row(member, now=seen["at"]) for member in members)]


def _member_row(member: dict[str, Any], *, now: float) -> list[str]:
    return [
        member["role"],
        f"pid {member['pid']}",
        f"up {_duration(now - member['started_at'])}",
        f"seen {now - member['beat_at']:.0f} s ago",
        f"{member['rss_bytes'] / 2**20:.0f} MiB",
        f"cpu {member['cpu_seconds']:.0f} s",
        member["release"],
        " ".join(f"{name}={value}" for name, value in member["info"].items()),
    ]


def _counters(counters: dict[str, int]) -> list[str]:
    return ["counters", *_table([name, str(amount)] for name, amount in sorted(counters.items()))]


def _apps(apps: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    for label, report in apps.items():
        if report["error"]:
            yield [label, f"  cannot say: {report['error']}"]
        else:
            yield [label, *_table([name, _compact(value)] for name, value in report["snapshot"].items())]


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _table(rows: Iterable[list[str]]) -> list[str]:
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in found]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
