import asyncio
import inspect
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.utils import ConnectionHandler
from django.test import override_settings

from scaling_kit import members
from scaling_kit.cache import ainvalidate, cached, invalidate, observer, status, tags
from scaling_kit.cache.functions import CachedFunction
from tests.cache.conftest import Library
from tests.cache.views import Hooks
from tests.library.models import Author, Book


@cached(timeout=timedelta(minutes=1), depends_on=["prices"])
def titles(prefix: str = "", *, limit: int = 10) -> tuple[str, ...]:
    Hooks.run()
    return tuple(Book.objects.filter(title__startswith=prefix).values_list("title", flat=True)[:limit])


@cached()
def shelf() -> Any:
    return {"titles": titles("The"), "authors": Author.objects.count()}


@cached()
def echo(value: Any) -> Any:
    return value


@cached()
def recursive(depth: int) -> int:
    Hooks.run()
    return recursive(depth) if Hooks.computed < depth else Hooks.computed


def test_calls_itself__does_not_wait_for_itself(library: Library) -> None:
    with override_settings(SCALING_KIT_CACHE_LEASE_SECONDS=60.0):
        assert recursive(3) == 3


def test_called_again__computed_once_for_the_same_arguments(library: Library) -> None:
    assert [titles("The"), titles("The"), titles("A")] == [["The Dispossessed"], ["The Dispossessed"], []]
    assert Hooks.computed == 2


def test_what_it_read_changes__computed_again(library: Library) -> None:
    titles("The")
    library.book.delete()
    assert titles("The") == []


def test_inner_one_was_a_hit__the_outer_one_depends_on_it_too(library: Library) -> None:
    titles("The")
    assert shelf()["titles"] == ["The Dispossessed"]
    library.book.delete()
    assert shelf()["titles"] == []


def test_invalidate_in_a_transaction__when_it_commits(library: Library) -> None:
    titles()
    with transaction.atomic():
        invalidate("prices")
        [bumped_before] = tags.fetch_bumps(tags.of("prices")).values()
    [bumped] = tags.fetch_bumps(tags.of("prices")).values()
    assert bumped > bumped_before
    titles()
    assert Hooks.computed == 2


def test_arguments_that_are_no_json__refused(library: Library) -> None:
    with pytest.raises(TypeError, match=r"echo is cached by its arguments.*Pass a primary key"):
        echo(library.book)


@pytest.mark.django_db(transaction=True)
def test_status__counts_and_latest_changes(library: Library) -> None:
    members.Member("test").beat()
    before = status.snapshot()
    library.warm_up()
    library.tag.save()
    members.Member("test").beat()
    after = status.snapshot()
    assert after["hit"] == before["hit"] + 1
    assert after["invalidation"] > before["invalidation"]
    assert after["latest_changes"][0]["tag"] == "table.library_tag"


def test_execute_wrapper_of_someone_else__does_not_take_the_observer_away(library: Library) -> None:
    connection.close()
    with connection.execute_wrapper(lambda execute, *args: execute(*args)):
        Book.objects.count()  # opens the connection
    assert any(isinstance(wrapper, observer.Observer) for wrapper in connection.execute_wrappers)


def test_sqlite__a_transaction_reads_from_a_snapshot() -> None:
    sqlite = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]
    assert not observer.Observer(sqlite).sees_commits()


@cached()
async def shelf_of_coroutine(prefix: str = "") -> list[str]:
    Hooks.run()
    return [book.title async for book in Book.objects.filter(title__startswith=prefix)]


@cached()
def nothing() -> None:
    Hooks.run()


def in_own_loop(function: Any) -> Any:
    """On an event loop, with the connection of this test's thread."""
    return async_to_sync(function)()


def test_coroutine__what_it_reads_is_observed(library: Library) -> None:
    async def read() -> list[str]:
        return await shelf_of_coroutine("The")

    assert [in_own_loop(read) for _ in range(2)] == [["The Dispossessed"]] * 2
    assert Hooks.computed == 1
    library.book.delete()
    assert in_own_loop(read) == []


def test_coroutines_that_want_the_same__one_computes(library: Library) -> None:
    async def read_three_times() -> list[list[str]]:
        return await asyncio.gather(*(shelf_of_coroutine() for _ in range(3)))

    assert in_own_loop(read_three_times) == [["The Dispossessed"]] * 3
    assert Hooks.computed == 1
    assert inspect.iscoroutinefunction(shelf_of_coroutine.__call__)


def test_invalidated_by_a_coroutine__computed_again(library: Library) -> None:
    titles()

    async def change() -> None:
        await ainvalidate("prices")

    in_own_loop(change)
    titles()
    assert Hooks.computed == 2


def test_same_arguments_said_otherwise__same_entry(library: Library) -> None:
    for call in (lambda: titles("The"), lambda: titles(prefix="The"), lambda: titles("The", limit=10)):
        assert call() == ["The Dispossessed"]
    assert Hooks.computed == 1
    with pytest.raises(TypeError, match="unexpected keyword"):
        titles(nonsense=1)


def test_forgotten__only_that_entry(library: Library) -> None:
    titles("The"), titles("A")
    titles.forget(prefix="The")
    titles("The"), titles("A")
    assert Hooks.computed == 3


def test_none__is_a_value(library: Library) -> None:
    assert [nothing(), nothing()] == [None, None]
    assert Hooks.computed == 1


def test_result_that_is_no_json__refused(library: Library) -> None:
    def price() -> Decimal:
        return Decimal(1)

    with pytest.raises(TypeError, match=r"price .*must be JSON: Object of type Decimal.*str\(decimal\)"):
        cached()(price)()


def test_not_a_function__refused_when_decorated() -> None:
    class Shop:
        def price(self, year: int) -> int:
            return year

        @staticmethod
        @cached()
        def rate(year: int) -> int:
            return year

    def years() -> Any:
        yield 1

    assert isinstance(Shop.rate, CachedFunction)
    for wrong, message in ((Shop.price, "is a method"), (staticmethod(len), "@staticmethod"), (years, "generator")):
        with pytest.raises(TypeError, match=message):
            cached()(wrong)
