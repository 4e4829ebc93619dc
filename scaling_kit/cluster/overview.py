"""The whole cluster in one dictionary, as any process sees it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from django.apps import AppConfig, apps
from django.utils.module_loading import import_string

from scaling_kit import members

NUMBERS: dict[str, type[int] | type[float]] = {
    "pid": int,
    "started_at": float,
    "beat_at": float,
    "rss_bytes": int,
    "cpu_seconds": float,
}
TEXTS = ("id", "role", "host", "release")


def overview() -> dict[str, Any]:
    """Every process, the counters summed over all of them, and what each installed app reports of itself.

    An app reports by naming a function in its AppConfig, `cluster_status = "dotted.path"`; one that fails is
    reported as failed. JSON-serialisable. Raises `redis.RedisError`.
    """
    return {
        "at": time.time(),
        "answered_by": members.member_id(os.getpid()),
        "members": [_typed(record) for record in members.fetch_members()],
        "counters": members.fetch_totals(),
        "apps": {app.label: _report(path) for app, path in _reporting_apps()},
    }


def _typed(record: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: record[name] for name in TEXTS}
    facts |= {name: number(record[name]) for name, number in NUMBERS.items()}
    return facts | {"info": {name: value for name, value in record.items() if name not in facts}}


def _reporting_apps() -> list[tuple[AppConfig, str]]:
    named = [(app, getattr(app, "cluster_status", "")) for app in apps.get_app_configs()]
    return [(app, path) for app, path in named if path]


def _report(path: str) -> dict[str, Any]:
    try:
        return {"snapshot": import_string(path)(), "error": None}
    except Exception as error:  # whatever an app does wrong, the page about all of them must appear
        return {"snapshot": None, "error": f"{type(error).__name__}: {error}"}
