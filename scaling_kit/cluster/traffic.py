"""Requests and queues of the whole cluster in a few lines, for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from scaling_kit import members
from scaling_kit.cluster import latency, metrics
from scaling_kit.metrics import Metric
from scaling_kit.redis import RedisError, UnreachableError, ensure_reachable


def traffic() -> list[str]:
    """Or why it cannot be told. Never raises."""
    try:
        ensure_reachable()
        history = members.fetch_history(minutes=0.5)
        return [_requests(history[-2][1]), *_queues(list(metrics.of_apps()))]
    except (UnreachableError, RedisError) as error:
        return [f"requests and queues are not known: {error}"]


def _requests(counted: dict[str, int]) -> str:
    """Of the last slot that is over."""
    found = [f"{counted.get('web.requests', 0) / members.SLOT_SECONDS:.1f} requests/s"]
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        seconds = latency.quantile(counted, share)
        if seconds is not None:
            found.append(f"{name} <= {seconds * 1000:g} ms")
    found.append(f"{counted.get('web.errors', 0) / members.SLOT_SECONDS:.1f} errors/s")
    return f"all hosts: {', '.join(found)}"


def _queues(found: list[Metric]) -> Iterator[str]:
    jobs: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in found:
        for labels, value in metric.samples:
            if metric.name == "jobs":
                jobs[labels["queue"]][labels["state"]] = value
            elif metric.name == "jobs_oldest_seconds":
                jobs[labels["queue"]]["oldest"] = value
    for queue, states in jobs.items():
        oldest = f" (oldest {states['oldest']:.0f} s)" if states.get("oldest") else ""
        yield (
            f"queue {queue}: {states.get('waiting', 0):.0f} waiting{oldest}, {states.get('running', 0):.0f} running, "
            f"{states.get('failed', 0):.0f} failed"
        )
