"""Generated statements, judged by the database itself.

A read that is said to keep to a scope must answer the same whatever happens in another one. A write must tell the
scopes of all rows that it has changed, as they were and as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scaling_kit.cache import observer, scopes, signals
from scaling_kit.cache.tags import of_table
from tests.cache.test_databases import sqlite
from tests.library.models import Author, Book

pytestmark = pytest.mark.django_db(transaction=True)

# Statements are text with these in braces, and `{b}` for what the table of books is called at that place.
VALUES = {"one": 1, "two": 2, "one_spelled": "1", "book": 11, "other_book": 13, "a": "a", "b_": "b"}

SIMPLE = [
    "{b}.author_id = {{one}}",
    '{b}."author_id" = {{one}}',
    '{b}."author_id" = {{two}}',
    '{b}."author_id" IN ({{one}})',
    "{b}.author_id in ({{one}}, {{two}})",
    "{b}.author_id={{one_spelled}}",
    "author_id = {{one}}",
    "{b}.author_id = 2",
    "{b}.author_id <> {{one}}",
    "{b}.author_id BETWEEN {{one}} AND {{one}}",
    "{b}.author_id >= {{one}}",
    "{b}.author_id IS NOT DISTINCT FROM {{one}}",
    '{b}."id" = {{book}}',
    '{b}."id" IN ({{book}}, {{other_book}})',
    "{b}.title = {{a}}",
    "{b}.title LIKE {{b_}}",
    "{b}.title IS NULL",
    "{b}.title = 'a' -- '\n",
    "true /* AND {b}.author_id = 1 */",
]
COMPOUND = [
    "{x} AND {y}",
    "{x} OR {y}",
    "NOT {x}",
    "({x})",
    "(({x}) AND {y})",
    "({x} OR {y})",
    "({x} AND {y}) IS NOT TRUE",
    "({x}) = ({y})",
    "({x} AND {y} AND {x}) IS NULL",
    "COALESCE(({x} AND {y} AND {x}), true)",
    "CASE WHEN {x} THEN {y} ELSE true END",
    "CASE WHEN {x} AND {y} AND {x} THEN false ELSE true END",
    "({x}) BETWEEN false AND {y}",
    "EXISTS (SELECT 1 FROM library_book u0 WHERE {x_u0} AND u0.id = {b}.id)",
    "NOT EXISTS(SELECT 1 FROM library_author u1 WHERE {x} AND u1.id = {b}.author_id LIMIT 1)",
    '{b}.id IN (SELECT U0."id" FROM "library_book" U0 WHERE {x_u0})',
    "(SELECT count(*) FROM library_book AS u0 WHERE {x_u0}) > 1",
]
# Read with a condition on the scope in front: most answers then keep to it, if the other one does not undo that.
IN_FRONT = ["{x}", "{y} AND {x}", "({y} AND {x})", "({y}) AND ({x})", "({y} AND {x}) OR false", "{y} OR {x}"]
READS = [
    "SELECT * FROM library_book WHERE {c}",
    'SELECT "library_book"."title" FROM "library_book" WHERE ({c}) ORDER BY "library_book"."title" LIMIT 2',
    "SELECT * FROM library_book b WHERE {c_b}",
    "SELECT count(*) FROM (SELECT DISTINCT title FROM library_book WHERE {c}) sub",
    "SELECT * FROM library_author LEFT JOIN library_book ON library_book.author_id = library_author.id WHERE {c}",
    "SELECT * FROM library_author LEFT JOIN library_book ON library_book.author_id = library_author.id AND {c}",
    "SELECT library_book.*, b.* FROM library_book, library_book b WHERE {c} AND b.title = library_book.title",
    "SELECT library_book.id FROM library_book INNER JOIN library_book AS b ON b.id = library_book.id WHERE {c_b}",
    "SELECT id FROM library_book WHERE {c} UNION SELECT id FROM library_book b WHERE {c_b}",
    "SELECT id FROM library_book EXCEPT SELECT id FROM library_book WHERE {c}",
    "WITH x AS (SELECT * FROM library_book WHERE {c}) SELECT title, count(*) FROM x GROUP BY title",
    "SELECT title, count(*) FROM library_book WHERE title > '' GROUP BY title, author_id, id HAVING {c}",
    "SELECT title FROM library_book WHERE title IS NOT NULL ORDER BY ({c}), id LIMIT 2",
    "SELECT id, ({c}) FROM library_book",
    "SELECT name, (SELECT count(*) FROM library_book WHERE {c}) FROM library_author",
    "SELECT id, sum(id) OVER (ORDER BY id) FROM library_book WHERE {c}",
]
WRITES = [
    "UPDATE library_book SET title = 'new' WHERE {c}",
    'UPDATE "library_book" SET "title" = {a} WHERE {c}',
    'UPDATE "library_book" SET "title" = {b_}, "author_id" = {two} WHERE "library_book"."id" = {book}',
    'UPDATE "library_book" SET "title" = {b_}, "author_id" = {one} WHERE ({c})',
    'UPDATE "library_book" SET "author_id" = ("library_book"."author_id" % 2) + {one} WHERE ({c})',
    'UPDATE "library_book" SET "author_id" = CASE WHEN {c} THEN {one} ELSE {two} END WHERE "library_book"."id" = 11',
    'UPDATE "library_book" SET "title" = {a} FROM library_author WHERE {c}',
    'DELETE FROM "library_book" WHERE {c}',
    'DELETE FROM "library_book" WHERE ({c}) RETURNING "library_book"."id"',
    'INSERT INTO "library_book" ("title", "author_id") VALUES ({a}, {two})',
    'INSERT INTO "library_book" ("title", "author_id") VALUES (lower({a}), {two}), ({b_}, {one}) RETURNING id',
    'INSERT INTO "library_book" ("title", "author_id") SELECT title, {two} FROM library_book WHERE {c}',
    'INSERT INTO "library_book" ("id", "title", "author_id") VALUES ({book}, {a}, {two}) '
    'ON CONFLICT ("id") DO UPDATE SET "title" = {b_}, "author_id" = EXCLUDED."author_id"',
    "INSERT INTO library_book SELECT 99, title, author_id FROM library_book WHERE id = 13",
]
WRITES_OF_ONE = {
    "postgresql": [
        "WITH x AS (UPDATE library_book SET title = 'new' WHERE {c} RETURNING id) SELECT count(*) FROM x",
        'DELETE FROM "library_book" USING library_author WHERE {c}',
        "TRUNCATE library_author CASCADE",
        "TRUNCATE library_book, library_book_tags",
        "MERGE INTO library_book USING (SELECT 11 AS n) s ON library_book.id = s.n "
        "WHEN MATCHED THEN UPDATE SET author_id = {two} WHEN NOT MATCHED THEN DO NOTHING",
        'INSERT INTO "library_book" ("title", "author_id") SELECT * FROM UNNEST(({titles})::varchar(200)[], '
        '({authors})::bigint[]) RETURNING "library_book"."id"',
        "DO $$ BEGIN UPDATE library_book SET title = 'done' WHERE author_id = 2; END $$",
    ],
    "sqlite": [
        "REPLACE INTO library_book (id, title, author_id) VALUES ({book}, {a}, {two})",
        'UPDATE OR REPLACE "library_book" SET "id" = {other_book} WHERE {c}',
    ],
}
LISTS = {"titles": ["x", "y"], "authors": [2, 2]}


def conditions(depth: int = 3) -> st.SearchStrategy[str]:
    """Text with `{b}` for the name of the table."""
    simple = st.sampled_from(SIMPLE[:3]) | st.sampled_from(SIMPLE)
    if not depth:
        return simple
    inner = conditions(depth - 1)
    compound = st.tuples(st.sampled_from(COMPOUND), inner, inner).map(
        lambda it: it[0].replace("{x_u0}", it[1].replace("{b}", "U0")).replace("{x}", it[1]).replace("{y}", it[2])
    )
    return simple | compound


def spelled(statement: str, condition: str) -> tuple[str, list[Any]]:
    text = statement.replace("{c_b}", condition.replace("{b}", "b"))
    text = text.replace("{c}", condition.replace("{b}", '"library_book"')).replace("{{", "{").replace("}}", "}")
    params: list[Any] = []
    pieces = text.split("{")
    for index, piece in enumerate(pieces[1:], start=1):
        name, _, rest = piece.partition("}")
        params.append({**VALUES, **LISTS}[name])
        pieces[index] = "%s" + rest
    return "".join(pieces) if params else text, params


def execute(connection: BaseDatabaseWrapper, sql: str, params: list[Any]) -> list[Any]:
    sql = sql.replace("%", "%%").replace("%%s", "%s")
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return sorted(map(repr, cursor.fetchall())) if cursor.description else []


def fill(connection: BaseDatabaseWrapper) -> None:
    for table in ("library_book_tags", "library_book", "library_author"):
        execute(connection, f"DELETE FROM {table}", [])
    execute(connection, "INSERT INTO library_author (id, name) VALUES (1, 'one'), (2, 'two'), (3, 'three')", [])
    rows = "(11, 'a', 1), (12, 'b', 1), (13, 'a', 2), (14, 'c', 2)"
    execute(connection, f"INSERT INTO library_book (id, title, author_id) VALUES {rows}", [])


@pytest.fixture(params=["postgresql", "sqlite"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseDatabaseWrapper]:
    if request.param == "sqlite":
        with sqlite("other", tmp_path / "other.sqlite3"):
            execute(connections["other"], "PRAGMA synchronous = OFF", [])
            fill(connections["other"])
            yield connections["other"]
    else:
        fill(connections["default"])
        yield connections["default"]


@pytest.fixture(autouse=True)
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    scopes.register(Book, "author", immutable=getattr(request, "param", True))
    yield
    scopes.unregister(Book)


ELSEWHERE = [
    "UPDATE library_book SET title = 'b' WHERE author_id = 2",
    "INSERT INTO library_book (id, title, author_id) VALUES (15, 'a', 2), (16, 'b', 2)",
    "UPDATE library_book SET author_id = 3 WHERE id = 15",
    "DELETE FROM library_book WHERE author_id = 2",
]
searched = hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])


@searched
@given(
    form=st.sampled_from(READS),
    restricted=st.sampled_from(['{b}."author_id" = {{one}}', '{b}."author_id" IN ({{one}}, {{one}})']),
    in_front=st.sampled_from(IN_FRONT),
    condition=conditions(),
)
def test_read_that_keeps_to_a_scope__is_the_same_whatever_happens_in_another(
    connection: BaseDatabaseWrapper, form: str, restricted: str, in_front: str, condition: str
) -> None:
    sql, params = spelled(form, in_front.replace("{x}", condition).replace("{y}", restricted))
    whole = frozenset({of_table("library_book")})
    with scopes.within({Book: Author(pk=1)}):
        assume(scopes.of_read(whole, sql, params) != whole)
    with suppress(DatabaseError), transaction.atomic(using=connection.alias):
        before = execute(connection, sql, params)
        for change in ELSEWHERE:
            execute(connection, change, [])
            assert execute(connection, sql, params) == before, (change, sql, params)
        transaction.set_rollback(True, using=connection.alias)


@pytest.mark.parametrize("registered", [True, False], ids=["immutable", "mutable"], indirect=True)
@searched
@given(data=st.data(), condition=conditions(2), in_transaction=st.booleans())
def test_write__tells_the_scopes_of_all_rows_that_it_has_changed(
    connection: BaseDatabaseWrapper, data: Any, condition: str, in_transaction: bool
) -> None:
    sql, params = spelled(data.draw(st.sampled_from(WRITES + WRITES_OF_ONE[connection.vendor])), condition)
    fill(connection)
    before = rows(connection)
    told: set[str] = set()
    with suppress(DatabaseError), transaction.atomic(connection.alias) if in_transaction else nullcontext():
        with told_of(connection, told):
            execute(connection, sql, params)
        after = rows(connection)
        unknown = of_table("library_book") + "~"
        needed = {f"{of_table('library_book')}|author_id={author}" for _, _, author in before ^ after}
        assert needed <= told or unknown in told, (sql, params)
        if in_transaction:
            transaction.set_rollback(True, using=connection.alias)


def rows(connection: BaseDatabaseWrapper) -> set[Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, title, author_id FROM library_book")
        return set(cursor.fetchall())


@contextmanager
def told_of(connection: BaseDatabaseWrapper, told: set[str]) -> Iterator[None]:
    def note(tags: set[str], **_: Any) -> None:
        told.update(tags)

    signals.invalidated.connect(note)
    try:
        yield
    finally:
        signals.invalidated.disconnect(note)
        told.update(observer._watch(connection).written)
