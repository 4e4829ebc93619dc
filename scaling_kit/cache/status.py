"""What the cluster page, the page of the cache and `manage.py cachestatus` show of the cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import redis
from django.db import DatabaseError

from scaling_kit import members
from scaling_kit.cache import drops, inventory, statements, tags, unsent
from scaling_kit.cache.conf import settings
from scaling_kit.cache.inventory import Inventory, Stock
from scaling_kit.cache.models import PendingBump
from scaling_kit.conf import settings as hall
from scaling_kit.redis import Purpose, RedisError, client, redacted

LATEST = 10
MOST_IN_FLIGHT = 100
COUNTED = ("hit", "stale", "miss", "bypass", "refused", "invalidation")
NEARLY_FULL = 0.9
OWN_REDIS = "Better a Redis of its own, SCALING_KIT_CACHE_REDIS_URL, with maxmemory-policy volatile-lru."


def snapshot(*, seconds: float = 0.05) -> dict[str, Any]:
    """Counts of all processes, what is stored, and what changed last. Looks, and changes nothing; never raises.

    Entries are counted for `seconds` at most; `at_least` says that there are more. JSON-serialisable.
    """
    try:
        ensure_answers()
        return _look(client(Purpose.SCRIPT, settings.REDIS_URL, decode=False), seconds)
    except (RedisError, OSError, ValueError) as error:
        return {"reachable": False, "error": str(error), "unsent_tags_of_this_process": unsent.waiting()}


def ensure_answers() -> None:
    """Raise `redis.RedisError` soon if the Redis of the cache, or that of the counters, does not answer."""
    for url in dict.fromkeys([settings.REDIS_URL or hall.REDIS_URL, hall.REDIS_URL]):
        try:
            client(Purpose.REQUEST, url).ping()
        except RedisError as error:
            raise RedisError(f"Redis at {redacted(url)} does not answer: {error}") from error


def fetch_families() -> set[str]:
    """Every view and cached function that has been counted or stored. Raises `redis.RedisError`."""
    stored = _fetch_names(client(Purpose.SCRIPT, settings.REDIS_URL, decode=False))
    return {*stored.values(), *_by_family(members.fetch_totals())}


def _look(redis_client: redis.Redis, seconds: float) -> dict[str, Any]:
    counted = members.fetch_totals()
    names = _fetch_names(redis_client)
    stock = inventory.take(redis_client, seconds=seconds)
    values = stock.values | inventory.fetch_values(
        redis_client, frozenset([tags.EPOCH, *map(tags.of_table, statements.tables())])
    )
    memory = _fetch_memory(redis_client)
    views = _views(counted, stock, names)
    outbox = _outbox_waiting()
    return {
        "reachable": True,
        "enabled": settings.ENABLED,
        **{what: counted.get(f"cache.{what}", 0) for what in COUNTED},
        "hit_ratio": _ratio(counted.get("cache.hit", 0), counted.get("cache.miss", 0)),
        "bypass_reasons": _reasons(counted),
        "views": views,
        "entries": sum(view["entries"] for view in views),
        "current": sum(view["current"] for view in views),
        "bytes": sum(view["bytes"] for view in views),
        "at_least": not stock.complete,
        "redis": memory,
        "latest_changes": _latest_changes(values),
        "in_flight": _in_flight(values),
        "outbox_waiting": outbox,
        "unsent_tags_of_this_process": unsent.waiting(),
        "warnings": _warnings(memory, outbox),
    }


def _fetch_names(redis_client: redis.Redis) -> dict[str, str]:
    """id → name of every family that has stored something."""
    found: dict[bytes, bytes] = redis_client.hgetall(tags.key_of("families"))  # type: ignore[assignment]
    return {key.decode(): name.decode(errors="replace") for key, name in found.items()}


# ---- by view


def _views(counted: dict[str, int], stock: Inventory, names: dict[str, str]) -> list[dict[str, Any]]:
    """The most used first."""
    by_family = _by_family(counted)
    ids = {tags.family_id(family): family for family in by_family} | names
    of_nobody = [family_id for family_id in stock.stocks if family_id not in ids]
    views = [_view(family, by_family[family], stock.stocks.get(id_, Stock())) for id_, family in ids.items()]
    views += [_view("", {}, stock.stocks[family_id]) for family_id in of_nobody]
    return sorted(views, key=lambda view: (-view["hit"] - view["miss"] - view["bypass"], view["view"]))


def _view(family: str, counts: dict[str, int], stock: Stock) -> dict[str, Any]:
    hit, miss = counts.get("hit", 0), counts.get("miss", 0)
    return {
        "view": family,
        "label": drops.label(family),
        "hit": hit,
        "miss": miss,
        "bypass": counts.get("bypass", 0),
        "hit_ratio": _ratio(hit, miss),
        "entries": stock.entries,
        "current": stock.current,
        "bytes": stock.bytes,
    }


def _by_family(counted: dict[str, int]) -> defaultdict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counted.items():
        what, colon, family = name.removeprefix("cache.").partition(":")
        if colon and what in ("hit", "miss", "bypass") and name.startswith("cache."):
            found[family][what] = count
    return found


def _reasons(counted: dict[str, int]) -> dict[str, int]:
    """Why it was bypassed, the commonest first."""
    stem = "cache.bypass;"
    found = {name.removeprefix(stem): count for name, count in counted.items() if name.startswith(stem)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _ratio(hit: int, miss: int) -> float | None:
    return round(hit / (hit + miss), 3) if hit + miss else None


# ---- what changed


def _latest_changes(values: dict[str, bytes]) -> list[dict[str, Any]]:
    """A tag that was never bumped has the time of the last bump before it was first used: mostly so with views."""
    bumps = {
        tag: int(value) / 1e6 for tag, value in values.items() if value.isdigit() and not tag.startswith(tags.VIEW)
    }
    latest = sorted(bumps.items(), key=lambda item: -item[1])[:LATEST]
    return [{"tag": tag, "what": drops.describe(tag), "changed_at": at} for tag, at in latest]


def _in_flight(values: dict[str, bytes]) -> list[str]:
    """What somebody is committing right now: the value of its tag is no number."""
    return [drops.describe(tag) for tag, value in values.items() if not value.isdigit()][:MOST_IN_FLIGHT]


def _outbox_waiting() -> int | None:
    """Rows of the outbox: bumps that Redis has not heard of. None if it is not in use, or the database does not say."""
    if not (settings.STRICT or settings.OUTBOX):
        return None
    try:
        return PendingBump.objects.count()
    except DatabaseError:
        return None


# ---- the server


def _fetch_memory(redis_client: redis.Redis) -> dict[str, Any]:
    """What INFO says; None for what it does not, or if this user may not ask."""
    try:
        info: dict[str, Any] = {**redis_client.info("memory"), **redis_client.info("stats")}
    except redis.ResponseError:
        info = {}
    return {
        "used_bytes": info.get("used_memory"),
        "max_bytes": info.get("maxmemory"),
        "policy": info.get("maxmemory_policy"),
        "evicted": info.get("evicted_keys"),
    }


def _warnings(memory: dict[str, Any], outbox: int | None) -> list[dict[str, str]]:
    found = [*_warnings_of_memory(**memory)]
    if not settings.ENABLED:
        found.append(("disabled", "SCALING_KIT_CACHE_ENABLED is False: everything is computed."))
    if unsent.waiting():
        found.append(("unsent", "Redis has not taken this process's invalidations yet; they are sent again."))
    if outbox:
        found.append(("outbox", f"{outbox} invalidations wait in the database to be sent."))
    return [{"code": code, "detail": detail} for code, detail in found]


def _warnings_of_memory(
    *, used_bytes: int | None, max_bytes: int | None, policy: str | None, evicted: int | None
) -> Iterator[tuple[str, str]]:
    if max_bytes == 0:
        yield "memory_unbounded", f"Redis has no maxmemory: entries may take all of the machine's. {OWN_REDIS}"
    if max_bytes and policy == "noeviction":
        yield "full_refuses", f"At maxmemory this Redis refuses entries, and invalidations as well. {OWN_REDIS}"
    if max_bytes and used_bytes and used_bytes > NEARLY_FULL * max_bytes:
        yield "nearly_full", f"Redis uses {used_bytes / max_bytes:.0%} of maxmemory; {evicted or 0} keys were evicted."
    if policy not in (None, "noeviction") and settings.REDIS_URL in ("", hall.REDIS_URL):
        yield "evicts_others", f"{policy} may evict what other rooms keep in this Redis, such as leases. {OWN_REDIS}"
