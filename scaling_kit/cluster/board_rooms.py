"""What the rooms report, for the dashboard. They are known by what they document of their report, not by their code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scaling_kit.cluster import charts
from scaling_kit.cluster.amounts import duration, moment, number

SLOW_SECONDS = 30


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


def _snapshot(apps: Mapping[str, Any], label: str) -> Mapping[str, Any] | None:
    return (apps.get(label) or {}).get("snapshot")


def gauges(apps: Mapping[str, Any]) -> dict[str, float]:
    jobs = _snapshot(apps, "scaling_kit_jobs")
    if jobs is None:
        return {}
    return {charts.QUEUE_AGE: max((queue["oldest_seconds"] or 0.0 for queue in jobs["queues"].values()), default=0.0)}


def queues(apps: Mapping[str, Any]) -> tuple[Queue, ...] | None:
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


def leader(apps: Mapping[str, Any]) -> str | None:
    scheduler = _snapshot(apps, "scaling_kit_scheduler")
    if scheduler is None:
        return None
    leads = scheduler["leader"]
    return f"{leads} leads, epoch {scheduler['epoch']}" if leads else "Nobody leads: no schedule runs."


def schedules(apps: Mapping[str, Any], now: float) -> tuple[Schedule, ...]:
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
        next="disabled" if not entry["enabled"] else moment(entry["next_run_at"], now),
        last=moment(entry["last_run_at"], now),
        runs=entry["runs"],
        status=entry["last_job_status"] or "",
    )


def figures(seen: Mapping[str, Any]) -> Iterable[Figure]:
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
