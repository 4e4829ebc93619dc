"""Who was told by `cluster drain` to take no more requests: a mark in Redis, so that it needs no runner.

Every web process looks at the marks when it is asked whether it is ready, at most once a second. While Redis is away
it goes on as it was; a Redis that lost its data has no marks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling_kit import members
from scaling_kit.redis import Purpose, client, key

EVERYTHING = "*"
# After the last command, so that hosts which are gone for good are forgotten.
TTL_SECONDS = 7 * 24 * 3600

_is_marked = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    host: str
    role: str
    """Of the members that it means, or EVERYTHING."""
    since: float


def put(host: str, roles: Sequence[str] = (EVERYTHING,)) -> None:
    """Raises `redis.RedisError`."""
    now = round(time.time(), 3)
    pipeline = client(Purpose.SCRIPT).pipeline()
    for role in roles:
        pipeline.hsetnx(_key(), _field(host, role), str(now))
    pipeline.expire(_key(), TTL_SECONDS)
    pipeline.execute()


def remove(host: str, roles: Sequence[str] = ()) -> None:
    """Those of these roles, or all of this host. Raises `redis.RedisError`."""
    removed = roles or [mark.role for mark in fetch() if mark.host == host]
    if removed:
        client(Purpose.SCRIPT).hdel(_key(), *(_field(host, role) for role in removed))


def fetch() -> list[Mark]:
    """By host and role. Raises `redis.RedisError`."""
    found: Any = client(Purpose.SCRIPT).hgetall(_key())
    marks = []
    for name, since in found.items():
        role, _, host = name.partition("@")
        marks.append(Mark(host=host, role=role, since=float(since)))
    return sorted(marks, key=lambda mark: (mark.host, mark.role))


def look() -> None:
    """Learn whether this process is meant by a mark. Raises `redis.RedisError`, and what was known is still known."""
    global _is_marked
    member = members.current()
    fields = [_field(members.host(), role) for role in (EVERYTHING, *([member.role] if member else []))]
    found: Any = client(Purpose.REQUEST).hmget(_key(), fields)
    _is_marked = any(found)


def is_on() -> bool:
    """What `look` learned last."""
    return _is_marked


def _key() -> str:
    return key("cluster", "drains")


def _field(host: str, role: str) -> str:
    return f"{role}@{host}"
