"""Writers outside Django: psycopg alone, on tables that have the trigger."""

from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from scaling_kit.cache import outbox, triggers
from scaling_kit.cache.models import PendingBump
from tests.cache.conftest import Library
from tests.library.models import Author, Book, Tag

Execute = Callable[..., None]


@pytest.fixture
def other_program(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        password=settings["PASSWORD"],
        dbname=settings["NAME"],
        autocommit=True,
    ) as opened:
        yield opened


@pytest.fixture
def installed(library: Library) -> Iterator[None]:
    execute(triggers.sql(Book, Author, except_application="web"))
    execute(triggers.sql(Book, Author, except_application="web"))  # harmless
    yield
    execute(triggers.drop_sql(Book, Author))
    execute(f"DROP FUNCTION {triggers.FUNCTION}")


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


WRITES = {
    "update": "UPDATE library_book SET title = 'Changed'",
    "insert": "INSERT INTO library_author (name) VALUES ('Changed')",
    "insert many to many": "INSERT INTO library_book_tags (book_id, tag_id) SELECT b.id, t.id FROM library_book b,"
    " library_tag t ON CONFLICT DO NOTHING",
    "delete": "DELETE FROM library_book_tags",
    "truncate": "TRUNCATE library_book_tags",
}


@pytest.mark.parametrize("sql", WRITES.values(), ids=WRITES.keys())
def test_b_write_from_outside_django__seen_when_swept(
    library: Library, installed: None, other_program: Any, sql: str
) -> None:
    before = library.warm_up()
    other_program.execute(sql)
    outbox.sweep()
    response = library.fetch()
    assert response["X-Cache"] == "miss"
    assert response.json() != before or "author" in sql


def test_copy__seen_when_swept(library: Library, installed: None, other_program: Any) -> None:
    library.warm_up()
    with other_program.cursor().copy("COPY library_book (title, author_id) FROM STDIN") as copy:
        copy.write_row(("Copied", library.author.pk))
    outbox.sweep()
    assert "Copied" in str(library.read())


def test_rolled_back__no_row(installed: None, other_program: Any) -> None:
    with other_program.transaction():
        other_program.execute(WRITES["update"])
        raise psycopg.Rollback
    assert not PendingBump.objects.exists()


def test_without_rights_on_the_outbox__written_all_the_same(library: Library, installed: None) -> None:
    execute("CREATE ROLE narrow; GRANT UPDATE, SELECT ON library_book TO narrow; SET ROLE narrow")
    try:
        execute(WRITES["update"])
    finally:
        execute("RESET ROLE; DROP OWNED BY narrow; DROP ROLE narrow")
    assert PendingBump.objects.exists()


@pytest.mark.parametrize(("name", "rows"), [("web", 0), ("nightly import", 1)])
def test_application_that_is_excepted__no_row(library: Library, installed: None, name: str, rows: int) -> None:
    execute(f"SET application_name = '{name}'")
    try:
        Book.objects.update(title="Changed")
    finally:
        execute("RESET application_name")
    assert PendingBump.objects.count() == rows


def test_command__prints_what_psql_takes(library: Library, other_program: Any) -> None:
    out = StringIO()
    call_command("cachetrigger", "library.Tag", "--except-application", "it's us", stdout=out)
    other_program.execute(out.getvalue())
    Tag.objects.update(name="Changed")
    assert PendingBump.objects.get().tags == "table.library_tag\ntable.library_tag~"
    out = StringIO()
    call_command("cachetrigger", "--drop", "library.Tag", stdout=out)
    other_program.execute(out.getvalue())
    other_program.execute(f"DROP FUNCTION {triggers.FUNCTION}")


@pytest.mark.parametrize("name", ["library.Nothing", "library"])
def test_command_with_no_model__says_so(name: str) -> None:
    with pytest.raises(CommandError, match=name):
        call_command("cachetrigger", name)


def test_sweepcache__says_how_many(library: Library) -> None:
    PendingBump.objects.create(tags="name.weather")
    out = StringIO()
    call_command("sweepcache", stdout=out)
    assert out.getvalue() == "rows=1\n"
