from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import override_settings

from scaling_kit.cache import drops, invalidate, inventory, status, tags
from scaling_kit.cache.tags import key_of, keys_of, redis_client
from scaling_kit.redis import RedisError
from tests.cache import stock
from tests.cache.conftest import Library
from tests.cache.stock import LIST, TOTALS
from tests.library.models import Author, Book

pytestmark = pytest.mark.django_db(transaction=True)

NOWHERE = "redis://:secret@127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def counters_of_one_test() -> None:
    stock.begin_counting()


def by_view() -> dict[str, dict[str, Any]]:
    return {view["view"]: view for view in status.snapshot(seconds=5)["views"]}


def test_views__with_counts_ratio_and_stock_the_most_used_first() -> None:
    stock.count(TOTALS, hit=1, miss=1)
    stock.count(LIST, hit=90, miss=10, bypass=2, reasons=["status", "size", "status"])
    stock.put(LIST, Book, size=150)
    stock.put(LIST, Book, digest="2", size=250)
    found = status.snapshot(seconds=5)
    assert [view["view"] for view in found["views"]] == [LIST, TOTALS]
    assert found["views"][0] == {
        "view": LIST,
        "label": "ArticleViewSet.list",
        "hit": 90,
        "miss": 10,
        "bypass": 2,
        "hit_ratio": 0.9,
        "entries": 2,
        "current": 2,
        "bytes": 400,
    }
    assert list(found["bypass_reasons"].items()) == [("status", 2), ("size", 1)]
    assert (found["hit"], found["miss"], found["hit_ratio"]) == (91, 11, 0.892)
    assert (found["entries"], found["bytes"], found["at_least"]) == (2, 400, False)


def test_entry_whose_tag_was_bumped__is_not_current() -> None:
    stock.put(LIST, Book)
    stock.put(TOTALS, Author)
    invalidate(Book)
    assert {view: (of["entries"], of["current"]) for view, of in by_view().items()} == {LIST: (1, 0), TOTALS: (1, 1)}
    redis_client().delete(*keys_of(tags.of(Author)))
    assert by_view()[TOTALS]["current"] == 0


def test_real_entry__is_counted(library: Library) -> None:
    library.warm_up()
    found = status.snapshot(seconds=5)
    assert (found["entries"], found["current"]) == (1, 1)
    assert found["bytes"] > len(library.fetch().content)
    library.book.save()
    assert status.snapshot(seconds=5)["current"] == 0


def test_view_that_was_dropped__has_no_current_entries_and_the_others_keep_theirs() -> None:
    stock.put(LIST, Book)
    stock.put(TOTALS, Book)
    assert drops.drop({tags.of_view(LIST)})
    assert {view: of["current"] for view, of in by_view().items()} == {LIST: 0, TOTALS: 1}


def test_real_view_that_was_dropped__computes_anew(library: Library) -> None:
    library.warm_up()
    drops.drop({tags.of_view("tests.cache.views.BookViewSet.list")})
    assert [library.fetch()["X-Cache"] for _ in range(2)] == ["miss", "hit"]


def test_look_that_is_out_of_time__says_at_least() -> None:
    redis = redis_client()
    pipeline = redis.pipeline()
    for number in range(2 * inventory.KEYS_AT_ONCE):
        pipeline.set(key_of("entry", "0" * 12, str(number)), b"1 *\n")
    pipeline.execute()
    found = status.snapshot(seconds=0)
    assert found["at_least"]
    assert 0 < found["entries"] < 2 * inventory.KEYS_AT_ONCE
    assert [view["view"] for view in found["views"]] == [""]  # of no known view


def test_entry_with_more_tags_than_are_looked_at__is_current() -> None:
    names = [f"name-{number:03}" for number in range(100)]
    stock.put(LIST, *names, size=5000)
    assert by_view()[LIST]["current"] == 1
    invalidate(names[0])
    assert by_view()[LIST]["current"] == 0


def test_prefix_with_signs_of_a_pattern__counts_its_own_keys_only() -> None:
    stock.put(LIST)
    with override_settings(SCALING_KIT_KEY_PREFIX="test-[a-z]*"):
        stock.put(TOTALS)
        try:
            assert [view for view, of in by_view().items() if of["entries"]] == [TOTALS]
        finally:
            redis_client().delete(*redis_client().scan_iter("test-\\[a-z\\]\\**"))


def test_latest_changes__in_words() -> None:
    stock.put(LIST, "weather")
    for tag in ("weather", Book):
        invalidate(tag)
    found = status.snapshot()["latest_changes"]
    assert [change["what"] for change in found[:2]] == ["library_book", "weather"]
    assert abs(found[0]["changed_at"] - time.time()) < 60


def test_commit_in_flight__is_shown() -> None:
    redis_client().set(keys_of(tags.of(Book))[0], "token:1")
    found = status.snapshot()
    assert found["in_flight"] == ["library_book"]
    assert "library_book" not in [change["what"] for change in found["latest_changes"]]


def codes() -> list[str]:
    return [warning["code"] for warning in status.snapshot()["warnings"]]


def test_warnings_of_memory() -> None:
    redis = redis_client()
    assert codes() == ["memory_unbounded"]
    try:
        redis.config_set("maxmemory", 1_000_000_000)
        assert codes() == ["full_refuses"]
        redis.config_set("maxmemory-policy", "volatile-lru")
        assert codes() == ["evicts_others"]
        with override_settings(SCALING_KIT_CACHE_REDIS_URL=settings_url(database=1)):
            assert codes() == []
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 50_000)
        assert "nearly_full" in codes()
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 0)


def settings_url(*, database: int) -> str:
    from scaling_kit.conf import settings

    return settings.REDIS_URL.rsplit("/", 1)[0] + f"/{database}"


@override_settings(SCALING_KIT_CACHE_ENABLED=False)
def test_disabled__is_a_warning() -> None:
    assert "disabled" in codes()


@pytest.mark.parametrize("name", ["SCALING_KIT_CACHE_REDIS_URL", "SCALING_KIT_REDIS_URL"])
def test_redis_away__one_line_without_the_password(name: str) -> None:
    with override_settings(**{name: NOWHERE}):
        before = time.monotonic()
        found = status.snapshot()
        assert time.monotonic() - before < 1
        with pytest.raises(RedisError):
            status.ensure_answers()
    assert found["reachable"] is False
    assert found["unsent_tags_of_this_process"] == 0
    assert "127.0.0.1:1/0 does not answer" in found["error"]
    assert "secret" not in found["error"]


@override_settings(SCALING_KIT_CACHE_REDIS_URL="nonsense")
def test_url_that_is_none__is_an_error_in_the_answer() -> None:
    assert status.snapshot()["reachable"] is False


def test_user_who_may_not_ask_for_memory__sees_the_rest() -> None:
    redis = redis_client()
    redis.acl_setuser("humble", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-info"])
    try:
        with override_settings(SCALING_KIT_CACHE_REDIS_URL=settings_url(database=0).replace("//", "//humble:pw@")):
            found = status.snapshot()
    finally:
        redis.acl_deluser("humble")
    assert (found["reachable"], found["redis"]["used_bytes"]) == (True, None)


@pytest.mark.parametrize(
    ("family", "label"),
    [
        ("shop.views.ArticleViewSet.list", "ArticleViewSet.list"),
        ("shop.views.WrappedAPIView.weather", "weather"),
        ("shop.reports.totals", "totals"),
        ("", ""),
    ],
)
def test_label(family: str, label: str) -> None:
    assert drops.label(family) == label
