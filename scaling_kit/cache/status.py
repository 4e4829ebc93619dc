"""What the cluster page shows of the cache."""

from __future__ import annotations

from typing import Any

from scaling_kit import members
from scaling_kit.cache import statements, tags, unsent
from scaling_kit.redis import RedisError

LATEST = 10


def snapshot() -> dict[str, Any]:
    """Counts of all processes, and the tables changed last. Looks, and changes nothing; never raises."""
    try:
        counted = members.fetch_totals()
        bumps = tags.fetch_bumps([tags.EPOCH, *map(tags.of_table, statements.tables())])
    except RedisError as error:
        return {"reachable": False, "error": str(error), "unsent_tags_of_this_process": unsent.waiting()}
    asked = counted.get("cache.hit", 0) + counted.get("cache.miss", 0)
    return {
        "reachable": True,
        **{what: counted.get(f"cache.{what}", 0) for what in ("hit", "miss", "bypass", "refused", "invalidation")},
        "hit_ratio": round(counted.get("cache.hit", 0) / asked, 3) if asked else None,
        "latest_changes": [
            {"tag": tag, "changed_at": at} for tag, at in sorted(bumps.items(), key=lambda item: -item[1])[:LATEST]
        ],
        "unsent_tags_of_this_process": unsent.waiting(),
    }
