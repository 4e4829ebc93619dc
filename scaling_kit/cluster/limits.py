"""Restart processes that have grown beyond their limit, one after another, as the order `restart` does.

For those that nobody else watches: gunicorn's master and the supervisor of the workers replace theirs, a new one first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from scaling_kit.cluster import sessions
from scaling_kit.cluster.child import Child
from scaling_kit.cluster.verbs import Verbs

if TYPE_CHECKING:
    from scaling_kit.cluster.runner import Runner

BYTES_PER_MB = 1_000_000


@asynccontextmanager
async def kept(runner: Runner, verbs: Verbs, *, look_seconds: float) -> AsyncIterator[None]:
    """For the length of the block, look so often. A process can be restarted no more often than that, either."""
    task = asyncio.create_task(_look(runner, verbs, look_seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look(runner: Runner, verbs: Verbs, look_seconds: float) -> None:
    while True:
        await asyncio.sleep(look_seconds)
        for child in list(runner.children.values()):
            limit_mb = child.process.memory_max_mb
            if limit_mb and child.ready.is_set() and (rss_mb := _rss_mb(child)) > limit_mb:
                runner.output.event("too large name=%s rss_mb=%.0f limit_mb=%s", child.name, rss_mb, limit_mb)
                await verbs.restart(child)


def _rss_mb(child: Child) -> float:
    """Of it and its own processes; pages that they share count for each."""
    return sum(seen.rss_bytes for seen in sessions.members({child.pid or 0})) / BYTES_PER_MB
