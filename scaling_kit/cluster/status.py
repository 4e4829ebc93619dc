"""`manage.py cluster status`: what runs where, for eyes and for scripts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit.cluster import marks, rooms
from scaling_kit.cluster.overview import overview
from scaling_kit.cluster.wording import duration, table
from scaling_kit.redis import RedisError, UnreachableError, ensure_reachable

HELP = "show every process by host and role, queues, schedules, sockets and the cache"
WATCH_SECONDS = 2.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"
WIDTH = 80
COUNTERS_IN_A_ROW = 3


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the overview as JSON (docs/cluster-status.md)")
    parser.add_argument("--watch", action="store_true", help=f"print again every {WATCH_SECONDS:g} s until Ctrl-C")


def run(*, json: bool, watch: bool, stdout: OutputWrapper, **_: Any) -> int:
    render = as_json if json else as_text
    if not watch:
        stdout.write(render(_fetch()))
        return 0
    try:
        while True:
            stdout.write(CLEAR_SCREEN * stdout.isatty() + _rendered(render))
            stdout.flush()
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
    sections = [_summary(seen), *_hosts(seen), *_apps(seen), _counters(seen["counters"])]
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    return "\n\n".join("\n".join(_cut(line, width) for line in lines) for lines in sections if lines)


def _summary(seen: dict[str, Any]) -> list[str]:
    found = seen["members"]
    if not found:
        return ["no process is running", *_drains(seen)]
    hosts = len({member["host"] for member in found})
    late = sum(member["late"] for member in found)
    parts = [
        f"{len(found)} process{'es' * (len(found) > 1)} on {hosts} host{'s' * (hosts > 1)}",
        *([f"{late} late"] if late else []),
    ]
    releases = sorted({member["release"] for member in found})
    parts.append(f"release{'s' * (len(releases) > 1)} {', '.join(release or '(unnamed)' for release in releases)}")
    return ["; ".join(parts), *_drains(seen)]


def _drains(seen: dict[str, Any]) -> Iterator[str]:
    for drain in seen["drains"]:
        what = "all" if drain["role"] == marks.EVERYTHING else drain["role"]
        yield f"drained: {what} of {drain['host']}, for {duration(seen['at'] - drain['since'])}"


def _hosts(seen: dict[str, Any]) -> Iterator[list[str]]:
    leader = _snapshot(seen, "scaling_kit_scheduler").get("leader")
    for host, members in groupby(seen["members"], key=lambda member: member["host"]):
        heads = ["role", "pid", "beat", "up", "rss", "cpu", "doing"]
        rows = [_member_row(member, now=seen["at"], leader=leader) for member in members]
        yield [f"host {host}", *table([heads, *rows])]


def _member_row(member: dict[str, Any], *, now: float, leader: str | None) -> list[str]:
    doing = _doing(member["role"], member["info"], leads=member["id"] == leader)
    return [
        member["role"],
        str(member["pid"]),
        f"{member['beat_age_seconds']:.0f} s",
        duration(now - member["started_at"]),
        f"{member['rss_bytes'] / 2**20:.0f} MiB",
        f"{member['cpu_percent']:.0f} %",
        f"late: paused? {doing}".strip() if member["late"] else doing,
    ]


def _doing(role: str, info: Mapping[str, str], *, leads: bool) -> str:
    if role == "scheduler":
        return f"leader, epoch {info.get('epoch', '?')}" if leads else "standby"
    if info.get("job"):
        return f"job {info['job']} of {info.get('queue', '?')}"
    if role == "supervisor":
        return f"{info.get('state', '')}, {info.get('processes', '?')} workers"
    under_way = [
        f"{info[name]} {name if info[name] != '1' else name.removesuffix('s')}"
        for name in ("requests", "sockets")
        if info.get(name, "0") != "0"
    ]
    return ", ".join(under_way) or info.get("state", "")


def _apps(seen: dict[str, Any]) -> Iterator[list[str]]:
    present = {member["id"] for member in seen["members"] if not member["late"]}
    scene = rooms.Scene(now=seen["at"], processes=present)
    for label, report in seen["apps"].items():
        if report["error"]:
            yield [label, f"  cannot say: {report['error'].splitlines()[0]}"]
        else:
            yield rooms.lines(label, report["snapshot"], scene)


def _snapshot(seen: dict[str, Any], label: str) -> Mapping[str, Any]:
    return (seen["apps"].get(label) or {}).get("snapshot") or {}


def _counters(counters: Mapping[str, int]) -> list[str]:
    """Without those by view, reason and time, which are in the JSON."""
    plain = [f"{name} {amount}" for name, amount in sorted(counters.items()) if not {":", ";"} & set(name)]
    return ["counters", *table(_rows_of(plain, COUNTERS_IN_A_ROW))] if plain else []


def _rows_of(cells: Sequence[str], number: int) -> Iterable[list[str]]:
    rows = [list(cells[start : start + number]) for start in range(0, len(cells), number)]
    return [row + [""] * (number - len(row)) for row in rows]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
