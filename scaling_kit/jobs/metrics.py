"""The queues, for Prometheus. The age of the oldest job that waits is the number to scale workers on."""

from __future__ import annotations

from scaling_kit.jobs import inspection
from scaling_kit.metrics import Metric

STATES = ("waiting", "scheduled", "running", "failed", "deferred")


def collect() -> list[Metric]:
    """Three round trips, whatever the queues hold. Raises `redis.RedisError`."""
    counts = inspection.fetch_counts()
    return [
        Metric(
            name="jobs",
            help="Jobs of each queue by state.",
            samples=[({"queue": one.name, "state": state}, getattr(one, state)) for one in counts for state in STATES],
        ),
        Metric(
            name="jobs_oldest_seconds",
            help="For how long the oldest job that waits has waited; 0 if none does.",
            samples=[({"queue": one.name}, one.oldest_seconds or 0.0) for one in counts],
        ),
        Metric(
            name="jobs_paused",
            help="1 if the queue is paused.",
            samples=[({"queue": one.name}, float(one.paused)) for one in counts],
        ),
    ]
