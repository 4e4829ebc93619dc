from __future__ import annotations

from typing import Any

from scaling_kit import members


def snapshot() -> dict[str, Any]:
    """Open sockets by process, and what was published and delivered so far. Raises `redis.RedisError`."""
    totals = members.fetch_totals()
    sockets = fetch_sockets()
    return {
        "sockets": sum(sockets.values()),
        "sockets_by_process": sockets,
        "published": totals.get("realtime.published", 0),
        "delivered": totals.get("realtime.delivered", 0),
        "lost": totals.get("realtime.lost", 0),
        "dropped_by_channel_layer": totals.get("realtime.layer_dropped", 0),
    }


def fetch_sockets() -> dict[str, int]:
    """Open sockets by process. Raises `redis.RedisError`."""
    return {member["id"]: int(member["sockets"]) for member in members.fetch_members() if "sockets" in member}
