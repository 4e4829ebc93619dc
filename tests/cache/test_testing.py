"""The aids for a project's own tests, used as a project does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import TestCase, TransactionTestCase, override_settings

from scaling_kit.cache import cached, invalidate
from scaling_kit.cache.testing import CacheTestMixin, assert_bypass, assert_hit, assert_miss, isolated_cache
from scaling_kit.redis import Purpose, client
from tests.library.models import Author, Book

BOOKS = "/books/"


class BrokenError(Exception):
    pass


def write_in_vain(book: Book) -> None:
    with transaction.atomic():
        book.save()
        raise BrokenError


class Checks:
    """What holds in a `TestCase` and in a `TransactionTestCase` alike."""

    client: Any
    book: Book

    def warm_up(self) -> None:
        self.client.get(BOOKS)
        assert_hit(self.client.get(BOOKS))

    def test_written_at_the_level_of_the_test__miss_then_hit(self) -> None:
        assert_miss(self.client.get(BOOKS))
        assert_hit(self.client.get(BOOKS))
        self.book.title = "Changed"
        self.book.save()
        response = self.client.get(BOOKS)
        assert_miss(response)
        assert response.json()[0]["title"] == "Changed"
        assert_hit(self.client.get(BOOKS))

    def test_block_of_the_code_under_test__is_a_transaction(self) -> None:
        self.warm_up()
        with transaction.atomic():
            assert_hit(self.client.get(BOOKS))
            Book.objects.update(title="Changed")
            assert_bypass(self.client.get(BOOKS), "transaction")
        assert_miss(self.client.get(BOOKS))

    def test_block_rolled_back__still_a_hit(self) -> None:
        self.warm_up()
        with pytest.raises(BrokenError):
            write_in_vain(self.book)
        assert_hit(self.client.get(BOOKS))

    def test_inner_block_rolled_back__what_the_outer_one_wrote_counts(self) -> None:
        self.warm_up()
        with transaction.atomic(durable=True):
            Author.objects.update(name="Changed")
            with pytest.raises(BrokenError):
                write_in_vain(self.book)
            assert_bypass(self.client.get(BOOKS), "transaction")
        assert_miss(self.client.get(BOOKS))

    def test_inner_block_ended__its_bump_waits_for_the_outer_one(self) -> None:
        self.warm_up()
        with pytest.raises(BrokenError), transaction.atomic():
            with transaction.atomic():
                self.book.save()
            assert_bypass(self.client.get(BOOKS), "transaction")
            raise BrokenError
        assert_hit(self.client.get(BOOKS))

    def test_another_table_written__still_a_hit(self) -> None:
        self.warm_up()
        with transaction.atomic():
            transaction.get_connection().cursor().execute("UPDATE auth_group SET name = name")
        assert_hit(self.client.get(BOOKS))

    def test_invalidated_in_a_block__when_it_ends(self) -> None:
        self.warm_up()
        with transaction.atomic():
            invalidate(Book)
        assert_miss(self.client.get(BOOKS))

    def test_told_on_commit__reads_the_change(self) -> None:
        self.warm_up()
        seen: list[HttpResponse] = []
        with _on_commit_called(self), transaction.atomic():
            transaction.on_commit(lambda: seen.append(self.client.get(BOOKS)))
            Book.objects.update(title="Changed")
        assert_miss(seen[0])
        assert seen[0].json()[0]["title"] == "Changed"  # type: ignore[attr-defined]

    def test_function__is_computed_again_when_its_table_changes(self) -> None:
        calls: list[int] = []

        @cached()
        def titles() -> list[str]:
            calls.append(1)
            return list(Book.objects.values_list("title", flat=True))

        assert titles() == titles() == ["The Dispossessed"]
        Book.objects.update(title="Changed")
        assert titles() == titles() == ["Changed"]
        assert len(calls) == 2

    def test_strict_mode__is_the_same(self) -> None:
        with override_settings(SCALING_KIT_CACHE_STRICT=True):
            self.test_block_of_the_code_under_test__is_a_transaction()
            self.test_written_at_the_level_of_the_test()

    def test_written_at_the_level_of_the_test(self) -> None:
        self.warm_up()
        self.book.save()
        assert_miss(self.client.get(BOOKS))


def _on_commit_called(test: Any) -> Any:
    if isinstance(test, TestCase):
        return test.captureOnCommitCallbacks(execute=True)
    from contextlib import nullcontext

    return nullcontext()


class InTestCase(Checks, CacheTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.book = Book.objects.create(title="The Dispossessed", author=Author.objects.create(name="Ursula"))

    def test_outermost_block_without_savepoint__bypassed_until_the_next_one_ends(self) -> None:
        self.warm_up()
        with transaction.atomic(savepoint=False):
            self.book.save()
        assert_bypass(self.client.get(BOOKS), "transaction")
        with transaction.atomic():
            pass
        assert_miss(self.client.get(BOOKS))


class InTransactionTestCase(Checks, CacheTestMixin, TransactionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.book = Book.objects.create(title="The Dispossessed", author=Author.objects.create(name="Ursula"))


class WithoutIt(TestCase):
    def test_written_by_the_test__bypassed(self) -> None:
        Author.objects.create(name="Ursula")
        assert_bypass(self.client.get(BOOKS), "transaction")

    def test_after_the_block__bypassed_since_others_share_that_cache(self) -> None:
        with isolated_cache():
            Author.objects.create(name="Ursula")
            self.client.get(BOOKS)
            assert_hit(self.client.get(BOOKS))
        assert_bypass(self.client.get(BOOKS), "transaction")

    def test_two_blocks__nothing_of_one_in_the_other(self) -> None:
        for _ in range(2):
            with isolated_cache():
                assert_miss(self.client.get(BOOKS))
                assert_hit(self.client.get(BOOKS))


@pytest.fixture
def cache(db: None) -> Iterator[None]:
    with isolated_cache():
        yield


def test_as_a_fixture__in_the_transaction_of_pytest_django(cache: None, client: Any) -> None:
    Author.objects.create(name="Ursula")
    assert connection.in_atomic_block
    assert_miss(client.get(BOOKS))
    assert_hit(client.get(BOOKS))


def test_at_the_end__no_key_is_left(db: None, keys_of_one_test: str) -> None:
    redis = client(Purpose.SCRIPT)
    before = set(redis.scan_iter("*"))
    with isolated_cache():
        cached()(lambda: Book.objects.count())()
        assert set(redis.scan_iter("*{cache}*")) - before
    assert {name for name in set(redis.scan_iter("*{cache}*")) - before if keys_of_one_test not in name} == set()


@pytest.mark.parametrize("check", [assert_hit, assert_miss, lambda response: assert_bypass(response, "redis")])
def test_assertion_fails__says_what_was_found(check: Callable[[HttpResponse], None]) -> None:
    with pytest.raises(AssertionError, match="'bypass;vary', expected"):
        check(HttpResponse(headers={"X-Cache": "bypass;vary"}))
    with pytest.raises(AssertionError, match="not cached, or SCALING_KIT_CACHE_HEADER"):
        check(HttpResponse())
