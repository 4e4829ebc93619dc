"""Entries and counters as views leave them, without the views."""

from __future__ import annotations

from collections.abc import Iterable

from scaling_kit import members
from scaling_kit.cache import tags
from scaling_kit.cache.tags import EPOCH, key_of, keys_of, of_view

LIST = "shop.views.ArticleViewSet.list"
TOTALS = "shop.reports.totals"


def begin_counting() -> None:
    """Forget what earlier tests have counted, which this test's first beat would hand over."""
    members._take_counts()


def put(family: str, *dependencies: tags.Dependency, digest: str = "1", size: int = 100) -> None:
    """An entry of so many bytes, current now."""
    names = sorted({EPOCH, of_view(family), *tags.of(*dependencies)})
    redis, family_id = tags.redis_client(), tags.family_id(family)
    sequence = tags.bump([])
    for key in keys_of(names):
        redis.set(key, sequence, nx=True)
    header = " ".join([str(sequence), *names]).encode() + b"\n"
    redis.set(key_of("entry", family_id, digest), header + b"x" * (size - len(header)), ex=300)
    redis.hset(key_of("families"), family_id, family)


def count(family: str, *, hit: int = 0, miss: int = 0, bypass: int = 0, reasons: Iterable[str] = ()) -> None:
    for what, amount in (("hit", hit), ("miss", miss), ("bypass", bypass)):
        if amount:
            members.count(f"cache.{what}", amount)
            members.count(f"cache.{what}:{family}", amount)
    for reason in reasons:
        members.count(f"cache.bypass;{reason}")
    members.Member("test").beat()
