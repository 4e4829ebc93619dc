"""The table of cases that caches are measured by: after each, the first read is right."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.test import override_settings

from scaling_kit.cache import cached
from tests.cache.conftest import Library
from tests.cache.views import Hooks
from tests.library.models import Author, Book, Tag

Elsewhere = Callable[[Callable[[], Any]], Any]
Through = Book.tags.through


def execute(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def save(instance: Any, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(instance, name, value)
    instance.save()


def bulk_update(book: Book) -> None:
    book.title = "Changed"
    Book.objects.bulk_update([book], ["title"])


def fast_writer(library: Library) -> None:
    """`set_autocommit(False)` and `commit()`, without `atomic`."""
    transaction.set_autocommit(False)
    try:
        save(library.book, title="Changed")
        transaction.commit()
        assert "Changed" in str(library.read()), "invalidated by the commit, not by the end of manual transactions"
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def atomic_in_manual_transaction(library: Library) -> None:
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            save(library.book, title="Changed")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


def durable(library: Library) -> None:
    with transaction.atomic(durable=True):
        save(library.book, title="Changed")


def on_a_copy_of_the_connection(library: Library) -> None:
    copy = connection.copy()
    try:
        with copy.cursor() as cursor:
            cursor.execute("UPDATE library_book SET title = 'Changed'")
    finally:
        copy.close()


def after_connection_refused(library: Library) -> None:
    """The database is down at BEGIN, once."""
    connection.close()
    settings = connection.settings_dict
    connection.settings_dict = {**settings, "PORT": 1}
    try:
        with pytest.raises(OperationalError), transaction.atomic():
            save(library.book, title="Never to be seen")
    finally:
        connection.settings_dict = settings
    save(library.book, title="Changed")


def after_connection_lost(library: Library) -> None:
    """The database ends the connection in the middle of a transaction; then another one is opened."""
    with pytest.raises(OperationalError), transaction.atomic():
        save(library.tag, name="Never to be seen")
        execute("SELECT pg_terminate_backend(pg_backend_pid())")
    connection.close()
    with transaction.atomic():
        save(library.book, title="Changed")


def savepoint_rolled_back(library: Library) -> None:
    with transaction.atomic():
        save(library.other_author, name="Jorge")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            save(library.book, title="Never to be seen")
            1 / 0  # noqa: B018
        save(library.tag, name="Changed")


@pytest.fixture(autouse=True, params=[(False, 0), (True, 0), (False, 10**6)], ids=["on commit", "strict", "nearby"])
def strict(request: Any, settings: Any) -> bool:
    settings.SCALING_KIT_CACHE_STRICT, settings.SCALING_KIT_CACHE_NEARBY_BYTES = request.param
    return bool(request.param[0])


CHANGES: dict[str, Callable[[Library], Any]] = {
    "a save()": lambda it: save(it.book, title="Changed"),
    "a create()": lambda it: Book.objects.create(title="Solaris", author=it.other_author),
    "a delete()": lambda it: it.book.delete(),
    "b queryset.update()": lambda it: Book.objects.update(title="Changed"),
    "b bulk_create": lambda it: Book.objects.bulk_create([Book(title="Solaris", author=it.other_author)]),
    "b bulk_update": lambda it: bulk_update(it.book),
    "b queryset.delete()": lambda it: Book.objects.filter(pk=it.book.pk).delete(),
    "b queryset._raw_delete()": lambda it: Through.objects.all()._raw_delete("default"),
    "b update_or_create": lambda it: Book.objects.update_or_create({"title": "Changed"}, pk=it.book.pk),
    "b bulk_create on conflict": lambda it: Book.objects.bulk_create(
        [Book(pk=it.book.pk, title="Changed", author=it.author)],
        update_conflicts=True,
        update_fields=["title"],
        unique_fields=["id"],
    ),
    "b raw cursor UPDATE": lambda it: execute("update library_book set title = %s", "Changed"),
    "b raw WITH..UPDATE": lambda it: execute(
        "WITH x AS (UPDATE library_book SET title = %s RETURNING id) SELECT count(*) FROM x", "Changed"
    ),
    "b raw executemany": lambda it: connection.cursor().executemany(
        "UPDATE library_book SET title = %s WHERE id = %s", [("Changed", it.book.pk)]
    ),
    "b TRUNCATE": lambda it: execute("TRUNCATE library_book_tags"),
    "c m2m add": lambda it: it.book.tags.add(it.other_tag),
    "c m2m remove": lambda it: it.book.tags.remove(it.tag),
    "c m2m clear": lambda it: it.book.tags.clear(),
    "c m2m set": lambda it: it.book.tags.set([it.other_tag]),
    "c reverse add": lambda it: it.other_tag.book_set.add(it.book),
    "c reverse remove": lambda it: it.tag.book_set.remove(it.book),
    "c reverse clear": lambda it: it.tag.book_set.clear(),
    "c through.objects.filter().delete()": lambda it: Through.objects.filter(book=it.book).delete(),
    "d author.save() seen in nested (select_related)": lambda it: save(it.author, name="Changed"),
    "d Author.update() seen in nested": lambda it: Author.objects.update(name="Changed"),
    "d tag.save() seen in nested (prefetch)": lambda it: save(it.tag, name="Changed"),
    "d FK reassigned": lambda it: save(it.book, author=it.other_author),
    "d cascade delete (Python)": lambda it: it.author.delete(),
    "e savepoint rolled back, outer commits": savepoint_rolled_back,
    "e atomic(durable=True)": durable,
    "e on connection.copy()": on_a_copy_of_the_connection,
    "e database down at BEGIN once": after_connection_refused,
    "e connection lost and reopened": after_connection_lost,
    "e set_autocommit(False)+commit()": fast_writer,
    "e atomic() within set_autocommit(False)": atomic_in_manual_transaction,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed__the_first_read_shows_it(library: Library, change: Callable[[Library], Any]) -> None:
    before = library.warm_up()
    change(library)
    after = library.read()
    with override_settings(SCALING_KIT_CACHE_ENABLED=False):
        assert after == library.read()
    assert after != before
    library.fetch()
    assert library.fetch()["X-Cache"] == "hit"


def test_e_rolled_back__nothing_is_invalidated_or_stored(library: Library) -> None:
    before = library.warm_up()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        save(library.book, title="Never to be seen")
        library.read()
        1 / 0  # noqa: B018
    assert library.fetch()["X-Cache"] == "hit"
    assert library.read() == before


def test_e_set_rollback__nothing_is_invalidated_or_stored(library: Library) -> None:
    before = library.warm_up()
    with transaction.atomic():
        save(library.book, title="Never to be seen")
        transaction.set_rollback(True)
    assert library.fetch()["X-Cache"] == "hit"
    assert library.read() == before


def test_e_refused_at_commit__then_right(library: Library) -> None:
    before = library.warm_up()
    with pytest.raises(IntegrityError), transaction.atomic():
        Book.objects.update(author_id=0)  # the constraint is deferred
    assert library.read() == before
    assert library.fetch()["X-Cache"] == "hit"
    save(library.book, title="Changed")
    assert "Changed" in str(library.read())


def test_server_side_cursor__its_tables_are_observed(library: Library) -> None:
    @cached()
    def titles() -> list[str]:
        return [book.title for book in Book.objects.iterator(chunk_size=1)]

    assert titles() == titles() == ["The Dispossessed"]
    save(library.book, title="Changed")
    assert titles() == ["Changed"]


def test_e_read_on_another_connection_before_the_commit__then_right(library: Library, elsewhere: Elsewhere) -> None:
    library.warm_up()
    with transaction.atomic():
        save(library.book, title="Changed")
        assert "Changed" not in str(elsewhere(library.read))
    assert "Changed" in str(library.read())


@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit writer", "atomic writer"])
def test_f_written_between_read_and_store__not_stored(
    library: Library, elsewhere: Elsewhere, in_transaction: bool
) -> None:
    def write() -> None:
        with transaction.atomic() if in_transaction else nullcontext():
            save(library.book, title="Changed")

    library.warm_up()
    save(library.tag, name="another")  # so that the next read computes
    Hooks.while_computing = lambda: elsewhere(write)
    assert "Changed" not in str(library.read()), "the reader had its data before the write"
    assert Hooks.while_computing is None
    assert "Changed" in str(library.read())


def test_f_read_between_the_bump_of_another_and_the_update__then_right(library: Library, elsewhere: Elsewhere) -> None:
    def read_first(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("UPDATE"):
            elsewhere(library.read)
        return execute(sql, *args)

    library.warm_up()
    with connection.execute_wrapper(read_first):
        save(library.book, title="Changed")
    assert "Changed" in str(library.read())


def test_f_read_between_commit_and_bump__then_right(library: Library, elsewhere: Elsewhere) -> None:
    library.warm_up()
    with connection.execute_wrapper(lambda execute, *args: (execute(*args), elsewhere(library.read))[0]):
        Book.objects.update(title="Changed")
    assert "Changed" in str(library.read())


def test_g_transaction_reads_its_own_write(library: Library) -> None:
    library.warm_up()
    with transaction.atomic():
        save(library.book, title="Changed")
        response = library.fetch()
        assert "Changed" in str(response.json())
        assert response["X-Cache"] == "bypass;transaction"


def test_g_uncommitted__not_stored(library: Library, elsewhere: Elsewhere) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        save(library.book, title="Never to be seen")
        library.read()
        1 / 0  # noqa: B018
    assert "Never" not in str(library.read())


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_g_snapshot_older_than_a_write__not_stored(library: Library, elsewhere: Elsewhere, level: str) -> None:
    with transaction.atomic():
        execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        Book.objects.count()  # now the snapshot is taken
        elsewhere(lambda: save(library.book, title="Changed"))
        response = library.fetch()
        assert "Changed" not in str(response.json())
        assert response["X-Cache"] == "bypass;isolation"
    assert "Changed" in str(library.read())
    library.fetch()
    with transaction.atomic():
        assert library.fetch()["X-Cache"] == "hit", "the level was that of one transaction"


def test_h_fifty_concurrent_misses__one_computation(library: Library) -> None:
    def read(_: int) -> Any:
        try:
            return library.fetch()
        finally:
            connections.close_all()

    library.warm_up()
    save(library.book, title="Changed")
    Hooks.computed = 0
    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(read, range(50)))
    assert all("Changed" in str(response.json()) for response in responses)
    assert Counter(response["X-Cache"] for response in responses) == {"miss": 1, "hit": 49}
    assert Hooks.computed == 1


def test_transaction_without_writes__hits_and_stores(library: Library) -> None:
    with transaction.atomic():
        library.warm_up()


def test_told_on_commit__whoever_reads_then_gets_the_change(library: Library) -> None:
    seen: list[Any] = []
    library.warm_up()
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append(library.read()))  # registered before the write
        Tag.objects.update(name="Changed")
    assert "Changed" in str(seen)


def test_other_tables_written__still_a_hit(library: Library) -> None:
    library.warm_up()
    Group.objects.create(name="readers")
    assert library.fetch()["X-Cache"] == "hit"
