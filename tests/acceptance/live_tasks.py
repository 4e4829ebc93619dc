"""A job that watches a run-time setting while it changes."""

import time

from scaling_kit.cluster.live import live
from scaling_kit.jobs.tasks import task


@task
def watch(seconds: float) -> list[list[float]]:
    """Each value of UPLOAD_MAX_MB, and when it was first seen, in seconds since 1970."""
    seen: list[list[float]] = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        value = live.UPLOAD_MAX_MB
        if not seen or seen[-1][0] != value:
            seen.append([value, time.time()])
        time.sleep(0.005)
    return seen
