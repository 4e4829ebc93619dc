"""Scopes of rows: a write in one leaves what was made of the others, and nothing that it should not."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import BooleanField, Count, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scaling_kit.cache import cached, invalidate, observer, scopes, tags
from tests.cache.models import Reply
from tests.library.models import Author, Book, Tag

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[True, False], ids=["immutable", "mutable"])
def immutable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def registered(immutable: bool) -> Iterator[None]:
    scopes.register(Book, "author", immutable=immutable)
    yield
    scopes.unregister(Book)


@cached(scope=lambda author: {Book: author})
def titles(author: int) -> list[str]:
    calls.append(author)
    return list(Book.objects.filter(author=author).order_by("pk").values_list("title", flat=True))


@cached()
def all_titles() -> list[str]:
    calls.append(0)
    return list(Book.objects.order_by("pk").values_list("title", flat=True))


calls: list[int] = []


class Shelf:
    """Two authors with two books each, and what was computed since the last look."""

    def __init__(self) -> None:
        self.one, self.other = (Author.objects.create(name=name) for name in ("one", "other"))
        self.books = [Book.objects.create(title=f"{number}", author=self.one) for number in range(2)]
        self.others = [Book.objects.create(title=f"other {number}", author=self.other) for number in range(2)]
        for _ in range(2):
            self.read()

    def read(self) -> list[int]:
        """Compare with the database; return for whom that was computed, 0 for all."""
        calls.clear()
        for author in (self.one.pk, self.other.pk):
            assert titles(author) == [book.title for book in Book.objects.filter(author=author).order_by("pk")]
        assert all_titles() == [book.title for book in Book.objects.order_by("pk")]
        return list(calls)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def truth(**conditions: Any) -> ExpressionWrapper:
    return ExpressionWrapper(Q(**conditions), BooleanField())


def save(book: Book, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(book, name, value)
    book.save()


def save_title(book: Book, **changes: Any) -> None:
    for name, value in {"title": "new", **changes}.items():
        setattr(book, name, value)
    book.save(update_fields=["title"])


def raw(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


OF_ONE: dict[str, Callable[[Shelf], Any]] = {
    "create": lambda it: Book.objects.create(title="new", author=it.one),
    "filter().update()": lambda it: Book.objects.filter(author=it.one).update(title="new"),
    "filter().exclude-less update with F": lambda it: Book.objects.filter(author=it.one).update(title=F("title")),
    "raw as Django spells it": lambda it: raw(
        'UPDATE "library_book" SET "title" = %s WHERE "library_book"."author_id" = %s', "new", it.one.pk
    ),
    "raw, the same number spelled otherwise": lambda it: raw(
        'UPDATE "library_book" SET "title" = %s WHERE "library_book"."author_id" = %s', "new", f"0{it.one.pk}"
    ),
    "invalidate(instance)": lambda it: invalidate(it.books[0]),
    "bulk_create": lambda it: Book.objects.bulk_create([Book(title=title, author=it.one) for title in "ab"]),
    "delete()": lambda it: it.books[0].delete(),
    "filter().delete()": lambda it: Book.objects.filter(author=it.one).delete(),
    "cascade": lambda it: it.one.delete(),
    "save() in a transaction": lambda it: transaction.atomic(save)(it.books[0], title="new"),
    "save(update_fields) in a transaction": lambda it: transaction.atomic(it.books[0].save)(update_fields=["title"]),
    "save() of a deferred field": lambda it: transaction.atomic(save)(
        Book.objects.only("pk", "title").get(pk=it.books[0].pk), title="new"
    ),
    "save(update_fields), its author changed in memory only": lambda it: transaction.atomic(save_title)(
        Book.objects.get(pk=it.books[0].pk), author=it.other
    ),
    "update_or_create": lambda it: Book.objects.update_or_create({"title": "new"}, pk=it.books[0].pk),
    "bulk_update": lambda it: Book.objects.bulk_update(it.books, ["title"]),
}
OF_ONE_IF_IMMUTABLE: dict[str, Callable[[Shelf], Any]] = {
    "save()": lambda it: save(it.books[0], title="new"),
    "save(update_fields)": lambda it: it.books[0].save(update_fields=["title"]),
}
OF_ALL: dict[str, Callable[[Shelf], Any]] = {
    "update()": lambda it: Book.objects.update(title="new"),
    "update of the scope": lambda it: Book.objects.filter(author=it.one).update(author=it.other),
    "update of the scope of a row": lambda it: Book.objects.filter(pk=it.books[0].pk).update(author=it.other),
    "save() with another author": lambda it: save(it.books[0], author=it.other),
    "update of one of two": lambda it: Book.objects.filter(Q(author=it.one) | Q(title="other 0")).update(title="new"),
    "update of the others": lambda it: Book.objects.exclude(author=it.one).update(title="new"),
    "bulk_update": lambda it: Book.objects.bulk_update([it.books[0], it.others[0]], ["title"]),
    "delete() of both": lambda it: Book.objects.filter(pk__in=[it.books[0].pk, it.others[0].pk]).delete(),
    "update of all, whatever the row of another table": lambda it: raw(
        'UPDATE "library_book" SET "title" = %s FROM "library_author" WHERE "library_author"."id" = %s',
        "new",
        it.books[0].pk,
    ),
    "raw, not": lambda it: raw(
        'UPDATE "library_book" SET "title" = %s WHERE NOT "library_book"."author_id" = %s', "new", it.one.pk
    ),
    "TRUNCATE of what it refers to": lambda it: raw("TRUNCATE library_author CASCADE"),
    "upsert": lambda it: Book.objects.bulk_create(
        [Book(pk=it.others[0].pk, title="new", author=it.one)],
        update_conflicts=True,
        update_fields=["title", "author"],
        unique_fields=["id"],
    ),
    "raw": lambda it: raw("update library_book set title = 'new' where author_id = %s", it.other.pk),
    "raw, not false": lambda it: raw(
        'UPDATE "library_book" SET "title" = %s WHERE "library_book"."author_id" = %s IS FALSE', "new", it.one.pk
    ),
    "executemany": lambda it: connection.cursor().executemany(
        'UPDATE "library_book" SET "title" = %s WHERE "library_book"."author_id" = %s',
        [("new", it.one.pk), ("new", it.other.pk)],
    ),
    "invalidate(model)": lambda it: invalidate(Book),
    "invalidate(model, instance)": lambda it: invalidate(Book, it.books[0]),
    "INSERT of a SELECT": lambda it: raw(
        "INSERT INTO library_book (title, author_id) SELECT title, author_id FROM library_book WHERE author_id = %s",
        it.other.pk,
    ),
}


def both(it: Shelf) -> list[int]:
    return [it.one.pk, it.other.pk, 0]


@pytest.mark.parametrize("change", OF_ONE.values(), ids=OF_ONE.keys())
def test_written_in_one_scope__the_other_is_still_a_hit(shelf: Shelf, change: Callable[[Shelf], Any]) -> None:
    assert shelf.read() == []
    change(shelf)
    assert shelf.read() == [shelf.one.pk, 0]
    assert shelf.read() == []


@pytest.mark.parametrize("change", OF_ONE_IF_IMMUTABLE.values(), ids=OF_ONE_IF_IMMUTABLE.keys())
def test_row_written__stays_in_its_scope_if_that_never_changes(
    shelf: Shelf, change: Callable[[Shelf], Any], immutable: bool
) -> None:
    change(shelf)
    assert shelf.read() == ([shelf.one.pk, 0] if immutable else both(shelf))


@pytest.mark.parametrize("change", OF_ALL.values(), ids=OF_ALL.keys())
def test_rows_written_that_nobody_can_name__nothing_is_a_hit(shelf: Shelf, change: Callable[[Shelf], Any]) -> None:
    change(shelf)
    assert shelf.read() == both(shelf)


def test_in_a_transaction__both_scopes_that_were_written(shelf: Shelf) -> None:
    third = Author.objects.create(name="third")
    titles(third.pk)
    titles(third.pk)
    with transaction.atomic():
        Book.objects.filter(author=shelf.one).update(title="new")
        Book.objects.create(title="new", author=shelf.other)
    assert shelf.read() == both(shelf)
    titles(third.pk)
    assert calls == both(shelf), "the third was not written"


def test_row_that_this_process_failed_to_insert__is_in_the_scope_that_it_has_in_the_database(shelf: Shelf) -> None:
    raw("INSERT INTO library_book (id, title, author_id) VALUES (1000000, 'theirs', %s)", shelf.other.pk)
    with pytest.raises(IntegrityError):
        Book(pk=1_000_000, title="ours", author=shelf.one).save(force_insert=True)
    shelf.read()
    with transaction.atomic():
        Book.objects.filter(pk=1_000_000).update(title="new")
    assert shelf.read() == [shelf.other.pk, 0]


def test_rows_deleted_by_the_database_with_others_of_their_table__nobody_knows_their_scopes(shelf: Shelf) -> None:
    scopes.register(Reply, "author")
    try:
        with transaction.atomic():
            Reply.objects.filter(author=shelf.one)._raw_delete("default")
            assert scopes.expected({Reply: shelf.other}) & observer._watch(connection).written
    finally:
        scopes.unregister(Reply)


def test_looked_up__for_rows_named_by_primary_key_and_for_no_other_table(
    shelf: Shelf, django_assert_num_queries: Any, immutable: bool
) -> None:
    with django_assert_num_queries(2 if immutable else 1):
        shelf.books[0].save()
    with django_assert_num_queries(1):
        Book.objects.filter(author=shelf.one).update(title="x")
    with django_assert_num_queries(1):
        shelf.one.save()


def test_looked_up__is_not_what_a_function_shows(shelf: Shelf) -> None:
    with observer.recording() as seen:
        shelf.books[0].save(update_fields=["title"])
    assert not seen


def test_author_changed_in_memory_only__the_scope_is_that_of_the_database(shelf: Shelf) -> None:
    raw("INSERT INTO library_book (id, title, author_id) VALUES (1000000, 'theirs', %s)", shelf.one.pk)
    shelf.read()
    save_title(Book.objects.get(pk=1_000_000), author=shelf.other)
    assert shelf.one.pk in shelf.read()


def test_row_that_is_not_there__nobody_knows_where_it_will_be(shelf: Shelf) -> None:
    Book.objects.filter(pk__in=[shelf.books[0].pk, 1_000_000]).update(title="new")
    assert shelf.read() == both(shelf)


@pytest.mark.parametrize(
    "read",
    [
        lambda it: Book.objects.count(),
        lambda it: list(Book.objects.filter(Q(author=it.one) | Q(title="x"))),
        lambda it: list(Book.objects.exclude(author=it.one)),
        lambda it: list(Book.objects.filter(author=it.one).union(Book.objects.all())),
        lambda it: list(Author.objects.filter(books__title="x")),
        lambda it: list(Author.objects.annotate(number=Count("books"))),
        lambda it: list(Book.objects.filter(author=it.one, pk__in=Book.objects.filter(title="other 0"))),
        lambda it: list(Book.objects.filter(author=it.other)),
        lambda it: list(Tag.objects.prefetch_related("book_set")),
        lambda it: list(Book.objects.raw("SELECT * FROM library_book")),
        lambda it: list(Book.objects.filter(title__gt="").order_by(truth(author=it.one, title="x"))),
        lambda it: list(Book.objects.annotate(mine=Coalesce(Value(True), Q(author=it.one))).filter(mine=True)),
        lambda it: list(Book.objects.annotate(mine=truth(author=it.one)).filter(mine=F("mine"))),
        lambda it: list(Book.objects.annotate(mine=truth(author=it.one, title="x")).filter(mine__isnull=False)),
        lambda it: raw('SELECT * FROM "library_book" WHERE NOT "library_book"."author_id" = %s', it.one.pk),
        lambda it: raw('SELECT * FROM "library_book" WHERE true <> ("library_book"."author_id" = %s)', it.one.pk),
        lambda it: raw('SELECT * FROM "library_book" WHERE "library_book"."author_id" = %s -- OR true', it.one.pk),
    ],
)
def test_read_beyond_the_scope__depends_on_the_whole_table(shelf: Shelf, read: Callable[[Shelf], Any]) -> None:
    book = shelf.books[0]
    book.tags.add(Tag.objects.create(name="novel"))
    with observer.recording() as seen, scopes.within({Book: shelf.one}):
        read(shelf)
    assert tags.of_table("library_book") in seen


@pytest.mark.parametrize(
    "read",
    [
        lambda it: list(Book.objects.filter(author=it.one)),
        lambda it: Book.objects.filter(author=it.one).count(),
        lambda it: list(Book.objects.filter(author=it.one, title__in=["x", "y"]).order_by("title")[:3]),
        lambda it: list(Book.objects.select_related("author").filter(title="x", author_id=it.one.pk)),
        lambda it: list(it.one.books.all()),
        lambda it: list(Book.objects.filter(author__in=[it.one])),
        lambda it: list(Book.objects.filter(author=it.one).filter(Q(title="x") | Q(title__icontains="y"))),
        lambda it: list(Book.objects.filter(author=it.one).union(Book.objects.filter(author=it.one, title="x"))),
        lambda it: list(Book.objects.filter(author=it.one, pk__in=Book.objects.filter(author=it.one).values("pk"))),
        lambda it: list(Author.objects.filter(Exists(Book.objects.filter(author=it.one, title=OuterRef("name"))))),
        lambda it: Book.objects.filter(author=it.one).distinct()[:3].count(),
        lambda it: list(Book.objects.filter(author=it.one, tags__name="x").exclude(tags__name="y")),
        lambda it: list(Author.objects.filter(pk=it.one.pk).prefetch_related("books")),
    ],
)
def test_read_within_the_scope__depends_on_that(shelf: Shelf, read: Callable[[Shelf], Any]) -> None:
    with observer.recording() as seen, scopes.within({Book: shelf.one.pk}):
        read(shelf)
    assert tags.of_table("library_book") not in seen
    assert seen >= scopes.expected({Book: shelf.one})


def test_random_writes__every_answer_is_right_at_once(shelf: Shelf, immutable: bool) -> None:
    source = random.Random(7)
    changes = {**OF_ONE, **OF_ONE_IF_IMMUTABLE, **dict(list(OF_ALL.items())[:7])}
    for removed in ("delete()", "filter().delete()", "cascade", "save() of a deferred field"):
        del changes[removed]
    for _ in range(80):
        source.choice(list(changes.values()))(shelf)
        shelf.read()


CONDITIONS = st.recursive(
    st.sampled_from(["one", "other"]).map(lambda who: lambda it: Q(author=getattr(it, who)))
    | st.sampled_from(["0", "1", "other 0", "new"]).map(lambda title: lambda it: Q(title=title))
    | st.just(lambda it: Q(pk__in=[it.books[0].pk, it.others[0].pk]))
    | st.just(lambda it: Q(author__in=[it.one, it.other]))
    | st.just(lambda it: Q(pk__in=Book.objects.filter(author=it.one).values("pk")))
    | st.just(lambda it: Q(Exists(Book.objects.filter(author=it.one, title=OuterRef("title"))))),
    lambda inner: (
        inner.map(lambda one: lambda it: ~one(it))
        | st.tuples(inner, inner).map(lambda pair: lambda it: pair[0](it) & pair[1](it))
        | st.tuples(inner, inner).map(lambda pair: lambda it: pair[0](it) | pair[1](it))
        | st.tuples(inner, inner).map(lambda pair: lambda it: pair[0](it) ^ pair[1](it))
    ),
    max_leaves=6,
)
SHAPES: list[Callable[[QuerySet[Book], Q], Any]] = [
    lambda books, condition: list(books.filter(condition).values_list()),
    lambda books, condition: list(books.exclude(condition).values_list()),
    lambda books, condition: books.filter(condition).count(),
    lambda books, condition: list(books.filter(condition).distinct().order_by("title")[:2].values_list()),
    lambda books, condition: list(books.filter(condition).values_list("author__name").annotate(Count("pk"))),
    lambda books, condition: list(
        books.filter(title__gt="").order_by(ExpressionWrapper(condition, BooleanField())).values_list()
    ),
    lambda books, condition: list(books.filter(condition).union(books.exclude(condition)).values_list()),
    lambda books, condition: list(books.annotate(x=ExpressionWrapper(condition, BooleanField())).values_list("x")),
    lambda books, condition: books.aggregate(n=Count("pk", filter=condition)),
    lambda books, condition: list(Author.objects.filter(books__in=books.filter(condition)).values_list()),
]
WRITES: list[Callable[[Shelf, Q], Any]] = [
    lambda it, condition: Book.objects.filter(condition).update(title="new"),
    lambda it, condition: Book.objects.filter(condition).update(author=it.one),
    lambda it, condition: Book.objects.filter(condition).update(author=F("author")),
    lambda it, condition: Book.objects.exclude(condition).delete(),
    lambda it, condition: [save(book, title="new") for book in Book.objects.filter(condition)],
    lambda it, condition: [save(book, author=it.other) for book in Book.objects.filter(condition)],
    lambda it, condition: [book.delete() for book in Book.objects.filter(condition)],
    lambda it, condition: Book.objects.create(title="1", author=it.other),
]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    is_filtered=st.booleans(),
    shape=st.sampled_from(SHAPES),
    write=st.sampled_from(WRITES),
    shown=CONDITIONS,
    written=CONDITIONS,
)
def test_an_answer_that_a_write_changes__has_a_tag_that_the_write_bumps(
    shelf: Shelf, is_filtered: bool, shape: Any, write: Any, shown: Any, written: Any
) -> None:
    def read() -> Any:
        return shape(Book.objects.filter(author=shelf.one) if is_filtered else Book.objects.all(), shown(shelf))

    with transaction.atomic():
        with observer.recording() as seen, scopes.within({Book: shelf.one}):
            before = read()
        write(shelf, written(shelf))
        bumped = observer._watch(connection).written
        assert read() == before or seen & bumped
        transaction.set_rollback(True)


def test_many_tenants_few_writes__mostly_hits(immutable: bool) -> None:
    """The figures of docs/cache.md: `pytest -s` prints them."""
    source = random.Random(7)
    authors = [Author.objects.create(name=str(number)) for number in range(200)]
    for author in authors:
        Book.objects.create(title="x", author=author)
    plain = cached()(lambda author: list(Book.objects.filter(author=author).values_list("title", flat=True)))
    ratios = {}
    for name, read in (("table", plain), ("scopes", titles)):
        reads, computed = 0, 0
        for _ in range(1500):
            author = source.choice(authors)
            if source.random() < 0.05:
                Book.objects.filter(author=author).update(title="x")
            else:
                before = len(connection.queries_log)
                connection.force_debug_cursor = True
                read(author.pk)
                connection.force_debug_cursor = False
                reads, computed = reads + 1, computed + (len(connection.queries_log) > before)
                connection.queries_log.clear()
        ratios[name] = round(1 - computed / reads, 2)
    print(ratios)
    assert ratios["scopes"] > 0.7 > 0.3 > ratios["table"]


@pytest.mark.parametrize(
    "conditions",
    [
        "NOT {} = %s",
        "true <> ({} = %s)",
        "({} = %s) IS NULL",
        "COALESCE(%s, {} = %s)",
        '"library_book"."title" = %s ORDER BY ({} = %s)',
    ],
)
def test_comparison_that_is_part_of_something_else__depends_on_the_whole_table(shelf: Shelf, conditions: str) -> None:
    sql = 'SELECT * FROM "library_book" WHERE ' + conditions.format('"library_book"."author_id"')
    params = [shelf.one.pk] * sql.count("%s")
    whole = frozenset({tags.of_table("library_book")})
    with scopes.within({Book: shelf.one}):
        assert scopes.of_read(whole, sql, params) == whole


def test_insert_that_fails__is_not_remembered(shelf: Shelf) -> None:
    with pytest.raises(IntegrityError):
        Book(pk=shelf.others[0].pk, title="new", author=shelf.one).save(force_insert=True)
    Book.objects.filter(pk=shelf.others[0].pk).update(title="changed")
    assert shelf.other.pk in shelf.read()


def test_row_moved_by_its_primary_key__both_scopes(shelf: Shelf) -> None:
    shelf.books[0].save()
    Book.objects.filter(pk=shelf.books[0].pk).update(author=shelf.other)
    assert shelf.read() == both(shelf)


def test_model_and_instance_invalidated_together__all_scopes(shelf: Shelf) -> None:
    invalidate(Book, shelf.books[0])
    assert shelf.read() == both(shelf)


def test_wrong_registration__says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="integers or UUIDs"):
        scopes.register(Book, "title")
    with pytest.raises(ValueError, match=r"Author, which has none: scopes\.register\(Author, field\)"):
        scopes.expected({Author: 1})
