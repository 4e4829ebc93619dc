"""The hosts of the dashboard, with their processes: what runners keep running, and who beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling_kit import members
from scaling_kit.cluster.amounts import duration, size
from scaling_kit.cluster.runners import Runner

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
# A member that says of itself how it is. Busy is what it is there for.
CALM = ("ready", "idle", "busy", "leader", "standby", "running", "done", "listed")


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


def host(name: str, seen: Mapping[str, Any], runner: Runner | None) -> Host:
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
