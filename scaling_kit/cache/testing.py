"""For the tests of a project that uses the cache. They need a real Redis.

Every test of a `TestCase` is inside a transaction that never commits, and what a transaction has written is neither
served from the cache nor stored: a view that such a test reads is computed each time. With `isolated_cache`, or
`CacheTestMixin`, the cache behaves in a test as it does in production:

    class ArticleTests(CacheTestMixin, TestCase):
        def test_list__is_a_hit_until_an_article_changes(self):
            self.client.get("/articles/")
            assert_hit(self.client.get("/articles/"))
            self.article.save()
            assert_miss(self.client.get("/articles/"))

With pytest, a fixture does it; it has to depend on the one that gives access to the database:

    @pytest.fixture
    def cache(db):
        with isolated_cache():
            yield
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http.response import HttpResponseBase
from django.test import SimpleTestCase, override_settings

from scaling_kit.cache import observer, tags, unsent
from scaling_kit.cache.conf import settings
from scaling_kit.redis import Purpose, RedisError, client
from scaling_kit.testing import isolated_keys

if TYPE_CHECKING:
    _TestCase = SimpleTestCase
else:
    _TestCase = object


@contextmanager
def isolated_cache() -> Iterator[None]:
    """A cache that is empty, and that no other test sees or has left something in, in whatever process.

    It is enabled, and responses have `X-Cache`. The transactions that are open around the block are treated as if
    there were none: what is written in the block is invalidated at once, and an `atomic()` in the block is a whole
    transaction. When it ends, its changes are invalidated; if it is rolled back, they are not. What is written in an
    outermost `atomic(savepoint=False)` is bypassed until the next such end.

    Functions for `transaction.on_commit` are not called, as in every `TestCase`: that is what
    `captureOnCommitCallbacks(execute=True)` is for.
    """
    with (
        isolated_keys(),
        override_settings(SCALING_KIT_CACHE_ENABLED=True, SCALING_KIT_CACHE_HEADER=True),
        _blocks_as_transactions(),
    ):
        # A new connection meets the new keys as a new server, and not later in the test.
        tags.redis_client().connection_pool.disconnect()
        try:
            yield
        finally:
            _delete_keys()


class CacheTestMixin(_TestCase):
    """`isolated_cache` around each test of a `TestCase` or `TransactionTestCase`, `setUp` included. Put it first."""

    def setUp(self) -> None:
        self.enterContext(isolated_cache())
        super().setUp()


def assert_hit(response: HttpResponseBase) -> None:
    """It was served from the cache."""
    _assert_status(response, "hit")


def assert_miss(response: HttpResponseBase) -> None:
    """It was computed, and could be stored."""
    _assert_status(response, "miss")


def assert_bypass(response: HttpResponseBase, reason: str) -> None:
    """It was computed, and not to be stored, for this reason: see the table in docs/cache.md."""
    _assert_status(response, f"bypass;{reason}")


def _assert_status(response: HttpResponseBase, expected: str) -> None:
    found = response.get("X-Cache", "")
    if not found:
        raise AssertionError(
            "The response has no X-Cache: its view is not cached, or SCALING_KIT_CACHE_HEADER is not set, "
            "which isolated_cache() does."
        )
    if found != expected:
        raise AssertionError(f"X-Cache is {found!r}, expected {expected!r}.")


def _delete_keys() -> None:
    with suppress(RedisError):  # then all but two small ones expire
        redis = client(Purpose.SCRIPT, settings.REDIS_URL)
        keys = list(redis.scan_iter(tags.key_of("*"), count=1000))
        if keys:
            redis.delete(*keys)


@contextmanager
def _blocks_as_transactions() -> Iterator[None]:
    around = [connection for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    written = [_begin(connection) for connection in around]
    try:
        yield
    finally:
        for connection, before in zip(around, written, strict=True):
            _end(connection, before)


def _begin(connection: BaseDatabaseWrapper) -> set[str]:
    """Treat the blocks that are open as the test's own; return what was written in them."""
    watched = observer._watch(connection)
    written, watched.written = watched.written, set()
    observer.blocks_around_test[connection] = len(connection.savepoint_ids) + 1
    release, roll_back = connection.savepoint_commit, connection.savepoint_rollback
    connection.savepoint_commit = partial(_commit, connection, release)  # type: ignore[method-assign]
    connection.savepoint_rollback = partial(_roll_back, connection, roll_back)  # type: ignore[method-assign]
    return written


def _end(connection: BaseDatabaseWrapper, written: set[str]) -> None:
    del connection.savepoint_commit, connection.savepoint_rollback, observer.blocks_around_test[connection]
    # What the test has written is in no entry that others see, and must not get into one.
    observer._watch(connection).written = written | {tags.EPOCH} if connection.in_atomic_block else set()


def _commit(connection: BaseDatabaseWrapper, release: Callable[[str], None], savepoint: str) -> None:
    release(savepoint)
    if _is_outermost(connection):
        watched = observer._watch(connection)
        written = watched.written
        watched._forget_transaction()
        unsent.bump(written)


def _roll_back(connection: BaseDatabaseWrapper, roll_back: Callable[[str], None], savepoint: str) -> None:
    roll_back(savepoint)
    if _is_outermost(connection):
        observer._watch(connection)._forget_transaction()


def _is_outermost(connection: BaseDatabaseWrapper) -> bool:
    """Django has taken the block that ends from its list already."""
    return len(connection.savepoint_ids) + 1 == observer.blocks_around_test[connection]
