"""What the kit's rooms and the project's apps report (`cluster_status`), in lines of text.

The rooms are known by what they document of their report, not by their code: docs/cluster-status.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from scaling_kit.cluster.wording import duration, table


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What else is seen."""

    now: float
    processes: Collection[str]
    """Ids of the members that are there, and not late."""


def lines(label: str, snapshot: Mapping[str, Any], scene: Scene) -> list[str]:
    """A title and what is below it."""
    return _ROOMS.get(label, _any)(label, snapshot, scene)


def _any(label: str, snapshot: Mapping[str, Any], _scene: Scene) -> list[str]:
    return [label, *table([name, _compact(value)] for name, value in snapshot.items())]


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _queues(_label: str, snapshot: Mapping[str, Any], _scene: Scene) -> list[str]:
    heads = ["queue", "waiting", "oldest", "running", "failed", "scheduled", ""]
    rows = [
        [
            name,
            str(counts["waiting"]),
            "-" if counts["oldest_seconds"] is None else duration(counts["oldest_seconds"]),
            *(str(counts[state]) for state in ("running", "failed", "scheduled")),
            "paused" if counts["paused"] else "",
        ]
        for name, counts in snapshot["queues"].items()
    ]
    return ["queues", *table([heads, *rows])]


def _schedules(_label: str, snapshot: Mapping[str, Any], scene: Scene) -> list[str]:
    heads = ["schedule", "next in", "last", "runs", "job"]
    rows = [
        [
            entry["name"],
            _next_in(entry, scene.now),
            "never" if entry["last_run_at"] is None else f"{duration(scene.now - entry['last_run_at'])} ago",
            str(entry["runs"]),
            entry["last_job_status"] or "-",
        ]
        for entry in snapshot["schedules"]
    ]
    unfit = [f"  {one['name']} does not run: {one['reason']}" for one in snapshot["unfit"]]
    return [f"scheduler: {_leader(snapshot, scene)}", *(table([heads, *rows]) if rows else []), *unfit]


def _leader(snapshot: Mapping[str, Any], scene: Scene) -> str:
    leader = snapshot["leader"]
    if not leader:
        return "nobody leads"
    unseen = "" if leader in scene.processes else ", not seen: another follows when its lease ends"
    return f"leader {leader}, epoch {snapshot['epoch']}{unseen}"


def _next_in(entry: Mapping[str, Any], now: float) -> str:
    if not entry["enabled"]:
        return "disabled"
    return "-" if entry["next_run_at"] is None else duration(entry["next_run_at"] - now)


def _sockets(_label: str, snapshot: Mapping[str, Any], _scene: Scene) -> list[str]:
    told = ", ".join(f"{snapshot[name]} {name}" for name in ("published", "delivered", "lost"))
    return [f"sockets: {snapshot['sockets']} open on {len(snapshot['sockets_by_process'])} processes; events: {told}"]


def _cache(_label: str, snapshot: Mapping[str, Any], _scene: Scene) -> list[str]:
    if not snapshot["reachable"]:
        return [f"cache: cannot say: {snapshot['error']}"]
    ratio = "no hit or miss yet" if snapshot["hit_ratio"] is None else f"hit ratio {100 * snapshot['hit_ratio']:.1f} %"
    told = ", ".join(f"{snapshot[name]} {name}" for name in ("hit", "stale", "miss", "bypass"))
    warnings = [f"  {warning['detail']}" for warning in snapshot["warnings"]]
    return [f"cache: {ratio}; {told}", *warnings]


_ROOMS: dict[str, Callable[[str, Mapping[str, Any], Scene], list[str]]] = {
    "scaling_kit_jobs": _queues,
    "scaling_kit_scheduler": _schedules,
    "scaling_kit_realtime": _sockets,
    "scaling_kit_cache": _cache,
}
