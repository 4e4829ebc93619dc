"""How something stood in each slot of the last minutes. Counters have their history with the beats; what only stands
somewhere, like the age of the oldest job, is written down by whoever looks at it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from scaling_kit.members import SLOT_SECONDS
from scaling_kit.redis import Purpose, client, key

TTL_SECONDS = 21 * 60


def record(values: Mapping[str, float], *, now: float | None = None) -> None:
    """The last word of a slot stands. Raises `redis.RedisError`."""
    if not values:
        return
    at = int(time.time() if now is None else now)
    slot = _key(at - at % SLOT_SECONDS)
    pipeline = client(Purpose.SCRIPT).pipeline()
    pipeline.hset(slot, mapping={name: f"{value:.3f}" for name, value in values.items()})
    pipeline.expire(slot, TTL_SECONDS)
    pipeline.execute()


def fetch(slots: Sequence[int]) -> list[dict[str, float]]:
    """What was written down in each; nothing where nobody looked. Raises `redis.RedisError`."""
    pipeline = client(Purpose.SCRIPT).pipeline(transaction=False)
    for slot in slots:
        pipeline.hgetall(_key(slot))
    return [{name: float(value) for name, value in found.items()} for found in pipeline.execute()]


def _key(slot: int) -> str:
    return key("cluster", "gauges", str(slot))
