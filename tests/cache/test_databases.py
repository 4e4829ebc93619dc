"""Several databases, and another one than PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections, transaction
from django.test import override_settings
from rest_framework.test import APIClient

from scaling_kit.cache import cached, invalidate
from tests.cache.conftest import Library
from tests.cache.test_cases import CHANGES, save
from tests.cache.views import Hooks
from tests.library.models import Author, Book, Tag

Elsewhere = Callable[[Callable[[], Any]], Any]

# The database cannot, or has no such statement.
NOT_ON_SQLITE = {"b raw WITH..UPDATE", "b TRUNCATE", "e database down at BEGIN once"}


@cached()
def titles(using: str) -> list[str]:
    Hooks.run()
    return list(Book.objects.using(using).order_by("id").values_list("title", flat=True))


@contextmanager
def alias(name: str, settings: dict[str, Any]) -> Iterator[None]:
    """Have this database under this name, in this thread and in those to come."""
    kept = connections.databases.get(name)
    connections.databases[name] = connections.configure_settings({"default": settings})["default"]
    mine = getattr(connections._connections, name, None)  # type: ignore[attr-defined]
    connections[name] = connections.create_connection(name)
    connections[name].connect()  # Django's test cases do not let open what was not there when they began
    try:
        yield
    finally:
        connections[name].close()
        del connections[name]
        del connections.databases[name]
        if kept is not None:
            connections.databases[name] = kept
            connections[name] = mine


@contextmanager
def sqlite(name: str, file: Path) -> Iterator[None]:
    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "OPTIONS": {"timeout": 20}}
    with alias(name, settings):
        with connections[name].schema_editor() as editor:
            for label in ("library", "cache_tests", "scaling_kit_cache"):
                for model in apps.get_app_config(label).get_models():
                    editor.create_model(model)
        yield


# --- several databases


@pytest.fixture
def other(library: Library, tmp_path: Path) -> Iterator[str]:
    """A second database, which is a file of SQLite."""
    with sqlite("other", tmp_path / "other.sqlite3"):
        author = Author.objects.using("other").create(name="Ursula")
        Book.objects.using("other").create(title="Solaris", author=author)
        yield "other"


@pytest.fixture
def twin(library: Library) -> Iterator[str]:
    """A second connection to the same database, as an alias for a replica or a pool is."""
    settings = {key: value for key, value in connection.settings_dict.items() if key != "TEST"}
    with alias("twin", settings):
        yield "twin"


def is_hit(using: str) -> bool:
    before = Hooks.computed
    titles(using)
    return Hooks.computed == before


def warm_up(*names: str) -> None:
    for using in [*names, *names]:
        titles(using)
    assert all(map(is_hit, names))


def test_written_with_using__first_read_of_that_database_shows_it(other: str) -> None:
    warm_up("default", other)
    Book.objects.using(other).update(title="Changed")
    assert titles(other) == ["Changed"]
    assert titles("default") == ["The Dispossessed"]


def test_transaction_on_one_write_on_the_other__invalidated_at_once(other: str) -> None:
    warm_up("default", other)
    with transaction.atomic():
        Author.objects.count()
        Book.objects.using(other).update(title="Changed")
        assert titles(other) == ["Changed"]
        assert is_hit(other)


def test_written_in_a_transaction_on_one__bypassed_for_both_until_it_ends(other: str) -> None:
    warm_up("default", other)
    with transaction.atomic(using=other):
        Book.objects.using(other).update(title="Changed")
        assert titles(other) == ["Changed"]
        assert not is_hit("default")
    assert titles(other) == ["Changed"]
    assert titles("default") == ["The Dispossessed"]
    assert is_hit("default")


def test_two_transactions__each_invalidates_when_it_commits(other: str, elsewhere: Elsewhere) -> None:
    def read() -> list[str]:
        connections[other].connect()
        try:
            return titles(other)
        finally:
            connections[other].close()

    warm_up("default", other)
    with transaction.atomic():
        Author.objects.update(name="Changed")
        with transaction.atomic(using=other):
            Book.objects.using(other).update(title="Changed")
        assert elsewhere(read) == ["Changed"]


def test_one_rolled_back_the_other_committed__that_one_is_invalidated(other: str) -> None:
    warm_up("default", other)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.update(name="Never to be seen")
        with transaction.atomic(using=other):
            Book.objects.using(other).update(title="Changed")
        1 / 0  # noqa: B018
    assert titles(other) == ["Changed"]


def test_invalidate_with_using__when_that_database_commits(other: str) -> None:
    warm_up(other)
    with transaction.atomic(using=other):
        invalidate(Book, using=other)
    assert not is_hit(other)


def test_written_through_another_alias_of_the_same_database__first_read_shows_it(twin: str) -> None:
    warm_up("default", twin)
    with transaction.atomic(using=twin):
        Book.objects.using(twin).update(title="Changed")
        assert titles("default") == ["The Dispossessed"]
    assert titles("default") == titles(twin) == ["Changed"]


class ReadsFromTheTwin:
    def db_for_read(self, model: type[Any], **hints: Any) -> str:
        return "twin"

    def db_for_write(self, model: type[Any], **hints: Any) -> str:
        return "default"


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_router_reads_elsewhere_than_it_writes__first_read_shows_it(
    library: Library, twin: str, settings: Any, strict: bool
) -> None:
    settings.SCALING_KIT_CACHE_STRICT = strict
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadsFromTheTwin"]
    library.warm_up()
    for title in ("first", "second"):
        Book.objects.filter(pk=library.book.pk).update(title=title)
        assert library.read()[0]["title"] == title
    with transaction.atomic():
        save(library.author, name="Changed")
    assert library.read()[0]["author"]["name"] == "Changed"


# --- SQLite


@pytest.fixture
def on_sqlite(django_db_blocker: Any, tmp_path: Path) -> Iterator[Library]:
    with django_db_blocker.unblock(), sqlite("default", tmp_path / "default.sqlite3"):
        author, other_author = (Author.objects.create(name=name) for name in ("Ursula", "Stanislaw"))
        tag, other_tag = (Tag.objects.create(name=name) for name in ("novel", "essay"))
        book = Book.objects.create(title="The Dispossessed", author=author)
        book.tags.add(tag)
        yield Library(author, other_author, tag, other_tag, book, APIClient())


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
@pytest.mark.parametrize("case", [name for name in CHANGES if name not in NOT_ON_SQLITE])
def test_changed_on_sqlite__the_first_read_shows_it(on_sqlite: Library, settings: Any, case: str, strict: bool) -> None:
    assert connection.vendor == "sqlite"
    settings.SCALING_KIT_CACHE_STRICT = strict
    before = on_sqlite.warm_up()
    CHANGES[case](on_sqlite)
    after = on_sqlite.read()
    with override_settings(SCALING_KIT_CACHE_ENABLED=False):
        assert after == on_sqlite.read()
    assert after != before
    on_sqlite.fetch()
    assert on_sqlite.fetch()["X-Cache"] == "hit"


def test_written_between_read_and_store_on_sqlite__not_stored(on_sqlite: Library, elsewhere: Elsewhere) -> None:
    on_sqlite.warm_up()
    save(on_sqlite.tag, name="another")
    Hooks.while_computing = lambda: elsewhere(lambda: save(on_sqlite.book, title="Changed"))
    assert "Changed" not in str(on_sqlite.read())
    assert "Changed" in str(on_sqlite.read())


def test_rolled_back_on_sqlite__still_a_hit(on_sqlite: Library) -> None:
    before = on_sqlite.warm_up()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        save(on_sqlite.book, title="Never to be seen")
        assert on_sqlite.fetch()["X-Cache"] == "bypass;transaction"
        1 / 0  # noqa: B018
    assert on_sqlite.fetch()["X-Cache"] == "hit"
    assert on_sqlite.read() == before


def test_transaction_on_sqlite__is_a_snapshot_and_bypassed(on_sqlite: Library) -> None:
    on_sqlite.warm_up()
    with transaction.atomic():
        assert on_sqlite.fetch()["X-Cache"] == "bypass;isolation"


def test_two_threads_on_sqlite__nobody_reads_what_is_older_than_the_last_commit(on_sqlite: Library) -> None:
    published, hits, done = 0, 0, threading.Event()

    def write() -> None:
        nonlocal published
        for number in range(1, 60):
            with transaction.atomic():
                Book.objects.update(title=str(number))
            published = number
            time.sleep(0.01)
        done.set()
        connection.close()

    on_sqlite.warm_up()
    Book.objects.update(title="0")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set() and not writing.done():
            at_least = published
            response = on_sqlite.fetch()
            hits += response["X-Cache"] == "hit"
            assert int(response.json()[0]["title"]) >= at_least  # type: ignore[attr-defined]
        writing.result()
    assert hits
