from __future__ import annotations

from scaling_kit.metrics import Metric
from scaling_kit.scheduler.status import fetch_leader


def collect() -> list[Metric]:
    """One round trip. Raises `redis.RedisError`."""
    leader = fetch_leader()
    return [
        Metric(
            name="scheduler_leaders",
            help="1 if a process leads, and schedules run.",
            samples=[({}, float(leader is not None))],
        ),
        Metric(
            name="scheduler_epoch",
            help="Of the leadership: it grows when another process takes over.",
            samples=[({}, float(leader.epoch))] if leader else [],
        ),
    ]
