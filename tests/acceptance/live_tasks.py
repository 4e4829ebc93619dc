"""A job that watches a run-time setting while it changes."""

import time
from pathlib import Path

from scaling_kit.cluster.live import live
from scaling_kit.jobs.tasks import task


@task
def watch(told: str, last: int) -> None:
    """Write each value of UPLOAD_MAX_MB to a file, with when it was first seen, in seconds since 1970."""
    ends_at, seen = time.monotonic() + 20, None
    while seen != last and time.monotonic() < ends_at:
        value = live.UPLOAD_MAX_MB
        if value != seen:
            seen = value
            with Path(told).open("a") as file:
                file.write(f"{seen} {time.time()}\n")
        time.sleep(0.005)
