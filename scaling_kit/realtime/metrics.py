"""Of realtime, for Prometheus. What was published, delivered and lost is counted, and there without this."""

from __future__ import annotations

from scaling_kit.metrics import Metric
from scaling_kit.realtime import status


def collect() -> list[Metric]:
    """Raises `redis.RedisError`."""
    by_process = status.fetch_sockets()
    return [
        Metric(
            name="realtime_sockets",
            help="Open websockets of each process.",
            samples=[({"process": process}, count) for process, count in by_process.items()],
        )
    ]
