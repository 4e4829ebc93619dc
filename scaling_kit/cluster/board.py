"""What the dashboard shows, as text in its order: hosts with their processes, charts, queues, schedules.

Who renders it needs no arithmetic. The rooms are known by what they document of their report, not by their code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling_kit import members
from scaling_kit.cluster import charts, gauges, runners
from scaling_kit.cluster.charts import Chart, History
from scaling_kit.cluster.overview import overview
from scaling_kit.cluster.runners import Runner
from scaling_kit.staff import reversed_or_empty

RUNNER = "runner"
# What a runner calls the processes of a role, and in which order they are read.
GROUPS = {
    "web": "web",
    "websocket": "websocket",
    "supervisor": "workers",
    "worker": "workers",
    "scheduler": "scheduler",
}
ORDER = ("web", "websocket", "workers", "scheduler")
SLOW_SECONDS = 30
# A member that says of itself how it is. Busy is what it is there for.
CALM = ("ready", "idle", "busy", "leader", "standby", "running", "done", "listed")
PAGES = {
    "jobs": "scaling_kit_jobs:page",
    "schedules": "admin:scaling_kit_scheduler_storedschedule_changelist",
    "cache": "scaling_kit_cache:page",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A process that beats."""

    id: str
    pid: int
    role: str
    state: str
    doing: str
    memory: str
    cpu: str
    up: str
    seen: str
    release: str
    is_late: bool
    answered: bool
    """It has answered the request for this page."""

    @property
    def tone(self) -> str:
        return "bad" if self.is_late else "good" if self.state in CALM else "warn"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes that are ordered about together."""

    name: str
    state: str
    note: str
    rows: tuple[Row, ...]
    running: int
    """How many it has: workers, or processes that are all alike."""
    is_managed: bool = False
    can_scale: bool = False
    is_stopped: bool = False

    @property
    def tone(self) -> str:
        return "bad" if self.state.startswith("late") else "good" if self.state in CALM else "warn"


@dataclass(frozen=True, kw_only=True)
class Host:
    name: str
    note: str
    groups: tuple[Group, ...]
    others: tuple[Group, ...]
    """What its runner keeps running beside: servers, commands that ran once."""
    problem: str
    is_managed: bool
    draining: str


@dataclass(frozen=True, kw_only=True)
class Queue:
    name: str
    waiting: int
    running: int
    scheduled: int
    failed: int
    oldest: str
    is_slow: bool
    is_paused: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    name: str
    timetable: str
    next: str
    last: str
    runs: int
    status: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    label: str
    value: str
    note: str = ""


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
    gauges.record(_gauges(seen["apps"]))
    found = seen["members"]
    asked = runners.fetch(sorted({member["host"] for member in found if member["role"] == RUNNER}))
    return board(seen, asked, charts.fetch())


def board(seen: Mapping[str, Any], asked: Mapping[str, Runner], history: History) -> Board:
    found, now = seen["members"], seen["at"]
    names = sorted({member["host"] for member in found} | asked.keys())
    hosts = tuple(_host(name, seen, asked.get(name)) for name in names)
    return Board(
        summary=_summary(found, names),
        answered_by=seen["answered_by"],
        releases=tuple(sorted({member["release"] for member in found if member["release"]})),
        hosts=hosts,
        charts=tuple(charts.charts(history)),
        queues=_queues(seen["apps"]),
        leader=_leader(seen["apps"]),
        schedules=_schedules(seen["apps"], now),
        figures=tuple(_figures(seen)),
        problems=tuple(f"{label} cannot say: {app['error']}" for label, app in seen["apps"].items() if app["error"]),
        pages={name: url for name, url in ((name, reversed_or_empty(view)) for name, view in PAGES.items()) if url},
    )


def _summary(found: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> str:
    processes = "1 process" if len(found) == 1 else f"{len(found)} processes"
    return f"{processes} on {'1 host' if len(hosts) == 1 else f'{len(hosts)} hosts'}"


# ---- hosts


def _host(name: str, seen: Mapping[str, Any], runner: Runner | None) -> Host:
    here = [member for member in seen["members"] if member["host"] == name]
    groups = _groups(here, seen, runner.processes if runner else ())
    mains = sorted((group for group in groups if not _is_aside(group)), key=_place)
    return Host(
        name=name,
        note=_host_note(here, seen["at"]),
        groups=tuple(mains),
        others=tuple(group for group in groups if _is_aside(group)),
        problem=runner.error if runner else "",
        is_managed=bool(runner and runner.processes),
        draining=_draining(name, seen),
    )


def _is_aside(group: Group) -> bool:
    return group.is_managed and not group.can_scale and not group.rows


def _place(group: Group) -> tuple[int, str]:
    return (ORDER.index(group.name) if group.name in ORDER else len(ORDER), group.name)


def _host_note(here: Sequence[Mapping[str, Any]], now: float) -> str:
    runner = next((member for member in here if member["role"] == RUNNER), None)
    memory = size(sum(member["rss_bytes"] for member in here))
    if runner is None:
        return f"no runner · {memory}"
    return f"runner {runner['pid']}, up {duration(now - runner['started_at'])} · {memory}"


def _draining(name: str, seen: Mapping[str, Any]) -> str:
    marks = [mark for mark in seen.get("drains", ()) if mark["host"] == name]
    if not marks:
        return ""
    roles = sorted(mark["role"] for mark in marks)
    what = "" if "*" in roles else f" {', '.join(roles)}"
    return f"drained{what} {duration(seen['at'] - min(mark['since'] for mark in marks))} ago"


def _groups(
    here: Sequence[Mapping[str, Any]], seen: Mapping[str, Any], processes: Sequence[Mapping[str, Any]]
) -> list[Group]:
    """What its runner keeps running, each with the members that belong to it; then the other members, by role."""
    named: dict[str, list[Mapping[str, Any]]] = {}
    for process in processes:
        named.setdefault(process["group"] or process["name"], []).append(process)
    by_pid = {pid: name for name, found in named.items() for process in found for pid in process["pids"] or ()}
    rows: dict[str, list[Row]] = {name: [] for name in named}
    for member in here:
        if member["role"] != RUNNER:
            name = by_pid.get(member["pid"]) or GROUPS.get(member["role"], member["role"])
            rows.setdefault(name, []).append(_row(member, seen))
    return [_group(name, tuple(found), named.get(name, ()), seen["at"]) for name, found in rows.items()]


def _group(name: str, rows: tuple[Row, ...], processes: Sequence[Mapping[str, Any]], now: float) -> Group:
    workers = next((process["workers"] for process in processes if process["workers"]), None)
    can_scale = bool(workers or any(process["group"] for process in processes))
    return Group(
        name=name,
        state=_group_state(rows, processes),
        note=_group_note(processes, now),
        rows=rows,
        running=workers or len(processes) or len(rows),
        is_managed=bool(processes),
        can_scale=can_scale,
        is_stopped=bool(processes) and all(process["state"] == "stopped" for process in processes),
    )


def _group_state(rows: Sequence[Row], processes: Sequence[Mapping[str, Any]]) -> str:
    late = sum(row.is_late for row in rows)
    if late:
        return f"late: {late}"
    if not processes:
        return "listed"
    states = Counter(process["state"] for process in processes)
    if len(states) == 1:
        return str(next(iter(states)))
    return ", ".join(f"{number} {state}" for state, number in states.items())


def _group_note(processes: Sequence[Mapping[str, Any]], now: float) -> str:
    if not processes:
        return ""
    memory = sum(process["rss_bytes"] or 0 for process in processes)
    parts = [f"pid {process['pid']}" for process in processes if process["pid"]][:1] if len(processes) == 1 else []
    parts += [size(memory)] if memory else []
    since = max((process["since"] for process in processes if process["since"]), default=None)
    parts += [f"since {duration(now - since)}"] if since else []
    again = sum(max(0, (process["starts"] or 0) - 1) for process in processes)
    parts += [f"started again {again} times"] if again else []
    ends = [process["last_end"] for process in processes if process["last_end"] and again]
    return " · ".join([*parts, *(f"last ended with {end}" for end in ends[:1])])


def _row(member: Mapping[str, Any], seen: Mapping[str, Any]) -> Row:
    info, now = member["info"], seen["at"]
    age = max(0.0, now - member["beat_at"])
    is_late = member.get("late", age > members.settings.TTL_SECONDS / 2)
    return Row(
        id=member["id"],
        pid=member["pid"],
        role=member["role"],
        state="late" if is_late else info.get("state") or "ready",
        doing=_doing(info),
        memory=size(member["rss_bytes"]),
        cpu=_cpu(member, now),
        up=duration(now - member["started_at"]),
        seen=f"{duration(age)} ago",
        release=member["release"],
        is_late=is_late,
        answered=member["id"] == seen["answered_by"],
    )


def _doing(info: Mapping[str, str]) -> str:
    """What it says of itself that is worth a line."""
    parts = [info["job"]] if info.get("job") else []
    for name, one in (("requests", "request"), ("sockets", "socket")):
        number = int(info.get(name) or 0)
        parts += [f"{number} {one if number == 1 else name}"] if number else []
    parts += [f"{info['processes']} workers"] if info.get("processes") else []
    return " · ".join(parts) or (f"listens to {info['queues']}" if info.get("queues") else "")


def _cpu(member: Mapping[str, Any], now: float) -> str:
    """Of one core; since its start, if it does not say how much just now."""
    percent = member.get("cpu_percent")
    if percent is None:
        percent = 100 * member["cpu_seconds"] / max(1.0, now - member["started_at"])
    return f"{percent:.0f} %"


# ---- what the rooms report


def _snapshot(apps: Mapping[str, Any], label: str) -> Mapping[str, Any] | None:
    return (apps.get(label) or {}).get("snapshot")


def _gauges(apps: Mapping[str, Any]) -> dict[str, float]:
    jobs = _snapshot(apps, "scaling_kit_jobs")
    if jobs is None:
        return {}
    return {charts.QUEUE_AGE: max((queue["oldest_seconds"] or 0.0 for queue in jobs["queues"].values()), default=0.0)}


def _queues(apps: Mapping[str, Any]) -> tuple[Queue, ...] | None:
    jobs = _snapshot(apps, "scaling_kit_jobs")
    return None if jobs is None else tuple(_queue(name, counts) for name, counts in jobs["queues"].items())


def _queue(name: str, counts: Mapping[str, Any]) -> Queue:
    oldest = counts["oldest_seconds"]
    return Queue(
        name=name,
        oldest=charts.NOTHING if oldest is None else duration(oldest),
        is_slow=oldest is not None and oldest > SLOW_SECONDS,
        is_paused=counts["paused"],
        **{state: counts[state] for state in ("waiting", "running", "scheduled", "failed")},
    )


def _leader(apps: Mapping[str, Any]) -> str | None:
    scheduler = _snapshot(apps, "scaling_kit_scheduler")
    if scheduler is None:
        return None
    leads = scheduler["leader"]
    return f"{leads} leads, epoch {scheduler['epoch']}" if leads else "Nobody leads: no schedule runs."


def _schedules(apps: Mapping[str, Any], now: float) -> tuple[Schedule, ...]:
    scheduler = _snapshot(apps, "scaling_kit_scheduler") or {"schedules": (), "unfit": ()}
    fit = [_schedule(entry, now) for entry in scheduler["schedules"]]
    unfit = [
        Schedule(name=one["name"], timetable="", next="never", last="", runs=0, status=one["reason"])
        for one in scheduler["unfit"]
    ]
    return (*fit, *unfit)


def _schedule(entry: Mapping[str, Any], now: float) -> Schedule:
    return Schedule(
        name=entry["name"],
        timetable=entry["timetable"],
        next="disabled" if not entry["enabled"] else _moment(entry["next_run_at"], now),
        last=_moment(entry["last_run_at"], now),
        runs=entry["runs"],
        status=entry["last_job_status"] or "",
    )


def _figures(seen: Mapping[str, Any]) -> Iterable[Figure]:
    counters, apps = seen["counters"], seen["apps"]
    errors = counters.get("web.errors", 0)
    yield Figure(label="Requests", value=number(counters.get("web.requests", 0)), note=f"{number(errors)} errors")
    sockets = _snapshot(apps, "scaling_kit_realtime")
    if sockets:
        told = f"{number(sockets['published'])} published, {number(sockets['delivered'])} delivered"
        lost = f", {number(sockets['lost'])} lost" if sockets["lost"] else ""
        yield Figure(label="Open sockets", value=number(sockets["sockets"]), note=told + lost)
    if "scaling_kit_jobs" in apps:
        done = counters.get("jobs.done", 0)
        yield Figure(label="Jobs done", value=number(done), note=f"{number(counters.get('jobs.enqueued', 0))} enqueued")
    cache = _snapshot(apps, "scaling_kit_cache")
    if cache:
        yield _cache_figure(cache)
    uploads = _snapshot(apps, "scaling_kit_media")
    if uploads:
        told = f"{number(uploads['expired'])} given up, {number(uploads['failed'])} refused"
        yield Figure(label="Uploads under way", value=number(uploads["pending"]), note=told)
    for label, app in apps.items():
        if not label.startswith("scaling_kit_") and app["snapshot"]:
            yield from _other_figures(label, app["snapshot"])


def _cache_figure(cache: Mapping[str, Any]) -> Figure:
    if not cache["reachable"]:
        return Figure(label="Cache", value="away", note=cache["error"])
    ratio = charts.NOTHING if cache["hit_ratio"] is None else f"{100 * cache['hit_ratio']:.1f} %"
    return Figure(
        label="Cache hits", value=ratio, note=f"{number(cache['hit'])} of {number(cache['hit'] + cache['miss'])}"
    )


def _other_figures(label: str, snapshot: Mapping[str, Any]) -> Iterable[Figure]:
    """Of an app of the project: its numbers."""
    for name, value in snapshot.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Figure(label=f"{label}: {name.replace('_', ' ')}", value=number(value))


# ---- words


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f") if value == int(value) else f"{value:g}"


def size(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1e6:.0f} MB" if number_of_bytes < 1e9 else f"{number_of_bytes / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """As scaling_kit/staff/elements.js says it, in whole numbers."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def _moment(at: float | None, now: float) -> str:
    if at is None:
        return charts.NOTHING
    return f"in {duration(at - now)}" if at > now else f"{duration(now - at)} ago"
