"""What the cluster page shows of the queues. It looks and never sweeps, unlike the counts of RQ's own registries."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scaling_kit.jobs import inspection


def snapshot() -> dict[str, Any]:
    """Per queue of RQ_QUEUES: jobs by state, age in seconds of the oldest that waits, and whether it is paused.

    Three round trips, whatever the queues hold. Raises `redis.RedisError`.
    """
    return {"queues": {counts.name: _without_name(asdict(counts)) for counts in inspection.fetch_counts()}}


def _without_name(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name != "name"}
