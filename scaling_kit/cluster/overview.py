"""The whole cluster in one dictionary, as any process sees it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.apps import AppConfig, apps
from django.utils.module_loading import import_string

from scaling_kit import members
from scaling_kit.cluster import marks

# Of the dictionary: grows when a field is renamed, removed or means something else, not when one is added.
SCHEMA = 1
# Beats come every third of the time to live.
LATE_SHARE = 0.5
NUMBERS: dict[str, type[int] | type[float]] = {
    "pid": int,
    "started_at": float,
    "beat_at": float,
    "rss_bytes": int,
    "cpu_seconds": float,
    "cpu_percent": float,
    "ttl_seconds": float,
}
TEXTS = ("id", "role", "host", "release")


def overview() -> dict[str, Any]:
    """Every process, the counters summed over all of them, and what each installed app reports of itself.

    An app reports by naming a function in its AppConfig, `cluster_status = "dotted.path"`; one that fails is
    reported as failed. JSON-serialisable; every field is in docs/cluster-status.md. Raises `redis.RedisError`.
    """
    found, now = members.fetch_members(), members.fetch_clock()
    return {
        "schema": SCHEMA,
        "at": now,
        "answered_by": members.member_id(os.getpid()),
        "members": [_typed(record, now=now) for record in found],
        "drains": [asdict(mark) for mark in marks.fetch()],
        "counters": members.fetch_totals(),
        "apps": {app.label: _report(path) for app, path in _reporting_apps()},
    }


def _typed(record: Mapping[str, str], *, now: float) -> dict[str, Any]:
    facts: dict[str, Any] = {name: record[name] for name in TEXTS}
    facts |= {name: number(record.get(name, 0)) for name, number in NUMBERS.items()}  # 0: of an older release
    age = max(0.0, now - facts["beat_at"])
    late = age > LATE_SHARE * (facts["ttl_seconds"] or members.settings.TTL_SECONDS)
    info = {name: value for name, value in record.items() if name not in facts}
    return facts | {"beat_age_seconds": round(age, 3), "late": late, "info": info}


def _reporting_apps() -> list[tuple[AppConfig, str]]:
    named = [(app, getattr(app, "cluster_status", "")) for app in apps.get_app_configs()]
    return [(app, path) for app, path in named if path]


def _report(path: str) -> dict[str, Any]:
    try:
        return {"snapshot": import_string(path)(), "error": None}
    except Exception as error:  # whatever an app does wrong, the page about all of them must appear
        return {"snapshot": None, "error": f"{type(error).__name__}: {error}"}
