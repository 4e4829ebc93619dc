"""Strict mode between Redis and the database: what is sent, and what happens when one of them fails."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.test import override_settings

from scaling_kit import members
from scaling_kit.cache import commits, marks, outbox, sweeper, tags, unsent
from scaling_kit.cache.checks import check_outbox
from scaling_kit.cache.models import PendingBump
from scaling_kit.redis import Purpose, RedisError, client, key
from scaling_kit.testing import wait_until
from tests.cache.conftest import Library
from tests.library.models import Author, Book, Tag

NOBODY = "redis://127.0.0.1:1/0"
BOOKS = tags.of_table("library_book")


@pytest.fixture(autouse=True)
def strict(settings: Any) -> None:
    settings.SCALING_KIT_CACHE_STRICT = True


@contextmanager
def redis_away() -> Iterator[None]:
    """For this process. After it, the bumps of the body have been sent."""
    with override_settings(SCALING_KIT_CACHE_REDIS_URL=NOBODY):
        yield
    wait_until(lambda: not unsent.waiting())


@contextmanager
def calls() -> Iterator[list[str]]:
    """The commands that reach Redis meanwhile, other than those of scripts."""
    seen: list[str] = []
    with client(Purpose.BLOCKING).monitor() as monitor:
        yield seen
        client(Purpose.SCRIPT).echo("the end")
        for command in iter(monitor.next_command, None):
            if "the end" in command["command"]:
                break
            if command["client_type"] != "lua" and key("cache") in command["command"]:
                seen.append(command["command"].split(" ")[0])


def write_in_transaction(it: Library) -> None:
    with transaction.atomic():
        Book.objects.update(title="Changed")
        with transaction.atomic():
            Author.objects.update(name="Changed")
        it.book.tags.add(it.other_tag)


def write_at_once(it: Library) -> None:
    Book.objects.update(title="Changed")


def write_nothing(it: Library) -> None:
    with transaction.atomic():
        Book.objects.count()


def write_and_roll_back(it: Library) -> None:
    with transaction.atomic():
        Book.objects.update(title="Never to be seen")
        transaction.set_rollback(True)


def write_what_is_ignored(it: Library) -> None:
    it.client.session.save()


@pytest.mark.parametrize(
    ("write", "in_strict_mode"),
    [
        (write_in_transaction, 2),
        (write_at_once, 2),
        (write_nothing, 0),
        (write_and_roll_back, 0),
        (write_what_is_ignored, 0),
    ],
)
def test_round_trips(library: Library, write: Callable[[Library], None], in_strict_mode: int) -> None:
    write_at_once(library)  # loads the scripts
    with calls() as strict:
        write(library)
    with override_settings(SCALING_KIT_CACHE_STRICT=False), calls() as default:
        write(library)
    assert len(strict) == in_strict_mode, strict
    assert len(default) == in_strict_mode // 2, default


def test_thousand_tables__two_round_trips() -> None:
    names = {f"table.{number}" for number in range(1000)}
    tags.bump(names, release=[marks.put(names).token])  # connects, and loads the scripts
    with calls() as seen, commits.published(names, marks.put(names)):
        pass
    assert seen == ["EVALSHA"] * 2


@pytest.mark.parametrize("write", [write_in_transaction, write_at_once])
@pytest.mark.parametrize("has_redis", [True, False])
def test_written__counted_once(library: Library, write: Callable[[Library], None], has_redis: bool) -> None:
    before = members._counts["cache.invalidation"]
    with nullcontext() if has_redis else redis_away():
        write(library)
    assert members._counts["cache.invalidation"] == before + 1


def test_while_committing__readers_bypass(library: Library, elsewhere: Any) -> None:
    library.warm_up()
    seen: list[Any] = []

    def read_before_and_after(execute: Any, *args: Any) -> Any:
        seen.append(elsewhere(library.fetch))
        result = execute(*args)
        seen.append(elsewhere(library.fetch))
        return result

    with connection.execute_wrapper(read_before_and_after):
        Book.objects.update(title="Changed")
    assert [response["X-Cache"] == "hit" for response in seen] == [False, False]
    assert "Changed" in str(seen[1].json())
    library.fetch()
    assert library.fetch()["X-Cache"] == "hit"


def test_refused_at_commit__marks_are_released(library: Library) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Book.objects.update(author_id=0)  # the constraint is deferred
    assert tag_of_books().isdigit()
    assert library.warm_up()


def test_refused_statement__marks_are_released(library: Library) -> None:
    with pytest.raises(IntegrityError):
        Group.objects.bulk_create([Group(pk=1, name="a"), Group(pk=1, name="b")])
    with pytest.raises(DatabaseError):
        Book.objects.update(title="x" * 201)
    assert tag_of_books().isdigit()


@pytest.mark.parametrize("in_transaction", [True, False])
def test_connection_lost_at_commit__bumped_now_and_once_more_at_the_deadline(
    library: Library, in_transaction: bool, settings: Any
) -> None:
    settings.SCALING_KIT_CACHE_MARK_SECONDS = 0.5
    library.warm_up()
    bumped_at = tags.fetch_bumps([BOOKS])[BOOKS]
    with server_that_breaks_at_commit(), pytest.raises(OperationalError):
        if in_transaction:
            with transaction.atomic():
                Book.objects.update(title="Changed")
        else:
            Book.objects.update(title="Changed")
    assert tags.fetch_bumps([BOOKS])[BOOKS] > bumped_at
    assert not tag_of_books().isdigit(), "the server may be committing yet"
    assert library.fetch()["X-Cache"] != "hit"
    wait_until(lambda: library.fetch()["X-Cache"] == "hit")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupted_after_commit__bumped(library: Library, interrupt: type[BaseException]) -> None:
    def execute_and_stop(execute: Any, *args: Any) -> None:
        execute(*args)
        raise interrupt

    library.warm_up()
    with pytest.raises(interrupt), connection.execute_wrapper(execute_and_stop):
        Book.objects.update(title="Changed")
    assert "Changed" in str(library.read())


@contextmanager
def server_that_breaks_at_commit() -> Iterator[None]:
    """The database ends the connection in the middle of a COMMIT that has changed a book."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER break AFTER UPDATE ON library_book DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION break()"
        )
    try:
        yield
    finally:
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION break() CASCADE")


def tag_of_books() -> str:
    return str(client(Purpose.SCRIPT).get(key("cache", "tag", BOOKS)))


@pytest.mark.parametrize("write", [write_in_transaction, write_at_once])
def test_redis_away__written_and_in_the_outbox(library: Library, write: Callable[[Library], None]) -> None:
    with redis_away():
        write(library)
        [row] = PendingBump.objects.all()
        assert BOOKS in row.tags.splitlines()
        assert Book.objects.get().title == "Changed"


@pytest.mark.parametrize("write", [write_nothing, write_and_roll_back])
def test_redis_away_and_nothing_written__no_row(library: Library, write: Callable[[Library], None]) -> None:
    with redis_away():
        write(library)
        assert not PendingBump.objects.exists()


def test_redis_away_and_statement_refused__no_row_and_the_same_error(library: Library) -> None:
    with redis_away(), pytest.raises(DatabaseError, match="too long"):
        Book.objects.update(title="x" * 201)
    assert not PendingBump.objects.exists()
    assert connection.get_autocommit()


def test_redis_away_and_savepoint_rolled_back__row(library: Library) -> None:
    with redis_away(), transaction.atomic():
        Tag.objects.update(name="Changed")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            1 / 0  # noqa: B018
    assert PendingBump.objects.get().tags == tags.of_table("library_tag")


def test_redis_away_and_no_table__written_all_the_same(library: Library, caplog: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {outbox.TABLE} RENAME TO elsewhere")
        try:
            [found] = check_outbox(databases=["default"])
            assert found.id == "scaling_kit_cache.W001"
            with redis_away():
                write_in_transaction(library)
                write_at_once(library)
        finally:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO {outbox.TABLE}")
    assert Book.objects.get().title == "Changed"
    assert "outbox row unwritten database=default" in caplog.text
    assert not check_outbox(databases=["default"])


def test_swept__bumped_then_deleted(library: Library) -> None:
    library.warm_up()
    PendingBump.objects.create(tags=BOOKS)
    PendingBump.objects.create(tags="\n".join([BOOKS, "name.weather"]))
    assert library.fetch()["X-Cache"] == "hit"
    assert outbox.sweep() == 2
    assert library.fetch()["X-Cache"] == "miss"
    assert not PendingBump.objects.exists()
    assert "name.weather" in tags.fetch_bumps(["name.weather"])


def test_swept_without_redis__rows_stay(library: Library) -> None:
    PendingBump.objects.create(tags=BOOKS)
    with redis_away(), pytest.raises(RedisError):
        outbox.sweep()
    assert PendingBump.objects.exists()


def test_swept_within_a_transaction__not_part_of_it(library: Library) -> None:
    PendingBump.objects.create(tags=BOOKS)
    with transaction.atomic():
        assert outbox.sweep() == 1
        transaction.set_rollback(True)
    assert not PendingBump.objects.exists()


def test_swept_by_four_at_once__each_row_bumped_and_gone(library: Library) -> None:
    outbox.ROWS_AT_ONCE, before = 10, outbox.ROWS_AT_ONCE
    try:
        PendingBump.objects.bulk_create([PendingBump(tags=f"name.{number}") for number in range(50)])
        threads = [threading.Thread(target=outbox.sweep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        outbox.ROWS_AT_ONCE = before
    names = [f"name.{number}" for number in range(50)]
    assert set(tags.fetch_bumps(names)) == set(names)
    assert not PendingBump.objects.exists()


@pytest.mark.parametrize(("is_strict", "has_outbox"), [(True, False), (False, True)])
def test_row_of_a_process_that_died__gone_after_the_interval(
    library: Library, settings: Any, is_strict: bool, has_outbox: bool
) -> None:
    settings.SCALING_KIT_CACHE_STRICT, settings.SCALING_KIT_CACHE_OUTBOX = is_strict, has_outbox
    settings.SCALING_KIT_CACHE_OUTBOX_SECONDS = 0.2
    sweeper._forget_turn_of_the_parent()
    library.warm_up()
    PendingBump.objects.create(tags=BOOKS)
    wait_until(lambda: not PendingBump.objects.exists() if library.fetch() else False, timeout_seconds=1)


def test_sweep_is_due__one_process_does(library: Library, settings: Any) -> None:
    settings.SCALING_KIT_CACHE_OUTBOX_SECONDS = 30.0
    library.warm_up()
    sweeper._forget_turn_of_the_parent()
    client(Purpose.SCRIPT).delete(key("cache", "sweep"))
    with calls() as ours:
        library.fetch()
    with calls() as later:
        library.fetch()
    sweeper._forget_turn_of_the_parent()  # now we are another process
    with calls() as of_another:
        library.fetch()
    assert ours == ["SET", "MGET"]
    assert later == ["MGET"]
    assert of_another == ["SET", "PTTL", "MGET"]


def test_database_away_when_swept__reader_is_served(library: Library, settings: Any, caplog: Any) -> None:
    library.warm_up()
    client(Purpose.SCRIPT).delete(key("cache", "sweep"))
    sweeper._forget_turn_of_the_parent()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {outbox.TABLE} RENAME TO elsewhere")
        try:
            assert library.fetch()["X-Cache"] == "hit"
        finally:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO {outbox.TABLE}")
    assert "outbox unswept database=default" in caplog.text
