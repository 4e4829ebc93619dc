from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from scaling_kit import members
from scaling_kit.cache import cached, invalidate, observer, status, tags
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
