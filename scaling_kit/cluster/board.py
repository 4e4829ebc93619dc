"""What the dashboard shows, as text in its order: hosts with their processes, charts, queues, schedules.

Who renders it needs no arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling_kit.cluster import board_hosts, board_rooms, charts, gauges, runners
from scaling_kit.cluster.board_hosts import RUNNER, Host
from scaling_kit.cluster.board_rooms import Figure, Queue, Schedule
from scaling_kit.cluster.charts import Chart, History
from scaling_kit.cluster.overview import overview
from scaling_kit.cluster.runners import Runner
from scaling_kit.staff import reversed_or_empty

PAGES = {
    "jobs": "scaling_kit_jobs:page",
    "schedules": "admin:scaling_kit_scheduler_storedschedule_changelist",
    "cache": "scaling_kit_cache:page",
}


@dataclass(frozen=True, kw_only=True)
class Board:
    summary: str
    answered_by: str
    releases: tuple[str, ...]
    hosts: tuple[Host, ...]
    charts: tuple[Chart, ...]
    queues: tuple[Queue, ...] | None
    """None: the room is not installed."""
    leader: str | None
    schedules: tuple[Schedule, ...]
    figures: tuple[Figure, ...]
    problems: tuple[str, ...]
    """Apps that could not say."""
    pages: Mapping[str, str]


def look() -> Board:
    """Ask everyone. Raises `redis.RedisError`."""
    seen = overview()
    gauges.record(board_rooms.gauges(seen["apps"]))
    found = seen["members"]
    asked = runners.fetch(sorted({member["host"] for member in found if member["role"] == RUNNER}))
    return board(seen, asked, charts.fetch())


def board(seen: Mapping[str, Any], asked: Mapping[str, Runner], history: History) -> Board:
    found, now = seen["members"], seen["at"]
    names = sorted({member["host"] for member in found} | asked.keys())
    hosts = tuple(board_hosts.host(name, seen, asked.get(name)) for name in names)
    return Board(
        summary=_summary(found, names),
        answered_by=seen["answered_by"],
        releases=tuple(sorted({member["release"] for member in found if member["release"]})),
        hosts=hosts,
        charts=tuple(charts.charts(history)),
        queues=board_rooms.queues(seen["apps"]),
        leader=board_rooms.leader(seen["apps"]),
        schedules=board_rooms.schedules(seen["apps"], now),
        figures=tuple(board_rooms.figures(seen)),
        problems=tuple(f"{label} cannot say: {app['error']}" for label, app in seen["apps"].items() if app["error"]),
        pages={name: url for name, url in ((name, reversed_or_empty(view)) for name, view in PAGES.items()) if url},
    )


def _summary(found: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> str:
    processes = "1 process" if len(found) == 1 else f"{len(found)} processes"
    return f"{processes} on {'1 host' if len(hosts) == 1 else f'{len(hosts)} hosts'}"
