"""How long requests took, as counters: one for each bucket, so that they can be summed over processes and time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

INFINITY = float("inf")
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, INFINITY)
MILLISECONDS = "web.milliseconds"
SECONDS_LE = "web.seconds_le"


def bucket(bound: float) -> str:
    """The counter of the requests that took no longer than this, and longer than the bound before."""
    return f"{SECONDS_LE};{bound:g}"


_BUCKETS = [bucket(bound) for bound in BOUNDS_SECONDS]


def bucket_of(seconds: float) -> str:
    return _BUCKETS[bisect_left(BOUNDS_SECONDS, seconds)]


def quantile(counted: Mapping[str, int], share: float) -> float | None:
    """The time in seconds within which this share of the requests was answered, as a bucket says it: its upper bound.

    None without requests; infinite beyond the last bound.
    """
    wanted = share * sum(counted.get(name, 0) for name in _BUCKETS)
    if not wanted:
        return None
    reached = 0
    for bound, name in zip(BOUNDS_SECONDS, _BUCKETS, strict=True):
        reached += counted.get(name, 0)
        if reached >= wanted:
            return bound
    return INFINITY
