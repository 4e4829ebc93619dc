"""What a cache may get wrong. A case returns whether the cache was right, or what is to be said instead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Subquery

from bench.caching.models import HAS_DB_CASCADE, Article, Author, Remark, Tag
from bench.caching.stage import ARTICLES, Stage, around, computations, in_thread, statements, until_settled
from scaling_kit.embedded import free_port

Result = bool | str
NOT_APPLICABLE = "-"
THROUGH = Article.tags.through


@dataclass(frozen=True, kw_only=True)
class Case:
    """`alone`: in a process and on a server of its own, since it leaves neither as it was."""

    name: str
    run: Callable[[Stage], Result]
    alone: bool = False
    persistent: bool = False


def after(write: Callable[[Stage], object]) -> Callable[[Stage], Result]:
    """Is the cached read right after this write?"""

    def run(stage: Stage) -> Result:
        stage.warm()
        write(stage)
        return stage.is_fresh()

    return run


def retitled(pk: int = 1, title: str = "new") -> Article:
    article = Article.objects.get(pk=pk)
    article.title = title
    return article


def save(_: Stage) -> None:
    retitled().save()


def create(_: Stage) -> None:
    Article.objects.create(pk=0, title="first", price=1, author_id=1)


def delete(_: Stage) -> None:
    Article.objects.get(pk=1).delete()


def update(_: Stage) -> None:
    Article.objects.filter(pk=1).update(title="new")


def bulk_create(_: Stage) -> None:
    Article.objects.bulk_create([Article(pk=0, title="first", price=1, author_id=1)])


def bulk_update(_: Stage) -> None:
    Article.objects.bulk_update([retitled()], ["title"])


def queryset_delete(_: Stage) -> None:
    Article.objects.filter(pk__lt=3).delete()


def raw_update(_: Stage) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE caching_article SET title = 'new' WHERE id = 1")


def raw_with_update(_: Stage) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH chosen AS (SELECT id FROM caching_article WHERE id = 1) "
            "UPDATE caching_article SET title = 'new' FROM chosen WHERE caching_article.id = chosen.id"
        )


def outside(stage: Stage) -> None:
    stage.database.execute("UPDATE caching_article SET title = 'new' WHERE id = 1")


def m2m_add(_: Stage) -> None:
    Article.objects.get(pk=1).tags.add(Tag.objects.get(pk=6))


def m2m_remove(_: Stage) -> None:
    Article.objects.get(pk=1).tags.remove(Tag.objects.get(pk=2))


def m2m_clear(_: Stage) -> None:
    Article.objects.get(pk=1).tags.clear()


def m2m_set(_: Stage) -> None:
    Article.objects.get(pk=1).tags.set([Tag.objects.get(pk=5)])


def reverse_add(_: Stage) -> None:
    Tag.objects.get(pk=6).article_set.add(Article.objects.get(pk=1))


def reverse_remove(_: Stage) -> None:
    Tag.objects.get(pk=2).article_set.remove(Article.objects.get(pk=1))


def reverse_clear(_: Stage) -> None:
    Tag.objects.get(pk=2).article_set.clear()


def through_delete(_: Stage) -> None:
    THROUGH.objects.filter(article_id=1).delete()


def author_save(_: Stage) -> None:
    author = Author.objects.get(pk=1)
    author.name = "new"
    author.save()


def author_update(_: Stage) -> None:
    Author.objects.filter(pk=1).update(name="new")


def tag_save(_: Stage) -> None:
    tag = Tag.objects.get(pk=2)
    tag.name = "new"
    tag.save()


def reassign(_: Stage) -> None:
    article = Article.objects.get(pk=1)
    article.author = Author.objects.get(pk=5)
    article.save()


def cascade(_: Stage) -> None:
    Author.objects.get(pk=1).delete()


def rollback(_: Stage) -> None:
    with transaction.atomic():
        retitled().save()
        transaction.set_rollback(True)


def read_while_open(stage: Stage) -> None:
    with transaction.atomic():
        retitled().save()
        stage.elsewhere(stage.read)


def savepoint(_: Stage) -> None:
    with transaction.atomic():
        retitled(1).save()
        with transaction.atomic():
            retitled(2).save()
            transaction.set_rollback(True)


def manual_commit(_: Stage) -> None:
    article = retitled()
    transaction.set_autocommit(False)
    try:
        article.save()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def _save_in_transaction(article: Article) -> None:
    with transaction.atomic():
        article.save()


def stale_set(write: Callable[[Article], object], stage: Stage) -> Result:
    """A reader has read the old row, is slow, and stores what it has made of it after the write."""
    article = retitled()

    def read_slowly() -> None:
        with around(ARTICLES, after=lambda: in_thread(partial(write, article)).result()):
            stage.read()

    stage.elsewhere(read_slowly)
    return stage.is_fresh()


def read_before_update(stage: Stage) -> Result:
    """Someone reads when the write has begun and its statement is not yet sent."""
    stage.warm()
    article = retitled()
    with around("UPDATE", before=partial(stage.elsewhere, stage.read)):
        article.save()
    return stage.is_fresh()


def killed_after_commit(stage: Stage) -> Result:
    stage.warm()
    stage.writer("killed after commit").wait()
    return _settles(stage, 2)


def killed_after_commit_filled(stage: Stage) -> Result:
    """The same, and someone has read just before the commit."""
    stage.warm()
    writer = stage.writer("waits before commit, killed after it")
    assert writer.stdout
    assert writer.stdin
    writer.stdout.readline()
    stage.read()
    writer.stdin.write("\n")
    writer.stdin.flush()
    writer.wait()
    return _settles(stage, 2)


def own_write(stage: Stage) -> Result:
    stage.warm()
    with transaction.atomic():
        retitled().save()
        return bool(stage.read()[0]["title"] == "new")


def hit_in_transaction(stage: Stage) -> Result:
    """ATOMIC_REQUESTS: a transaction that has not written needs no database for a hit."""
    stage.warm()
    with transaction.atomic(), statements() as seen:
        stage.read()
    return not seen


def uncommitted(stage: Stage) -> Result:
    with transaction.atomic():
        retitled().save()
        stage.read()
        transaction.set_rollback(True)
    return stage.is_fresh()


def snapshot(stage: Stage) -> Result:
    """A transaction that sees the past reads, and may not store what it sees."""
    article = retitled()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT 1 FROM caching_tag")
        stage.elsewhere(article.save)
        stage.read()
    return stage.is_fresh()


def asked(name: str, query: Callable[[], object], write: Callable[[], object], stage: Stage) -> Result:
    """Another query than the list, for those who can cache one."""
    if not hasattr(stage.library, "ask"):
        return NOT_APPLICABLE
    before = [stage.library.ask(name, query) for _ in range(2)][-1]
    write()
    return bool(stage.library.ask(name, query) != before)


def _price_as_text() -> list[int]:
    return list(Article.objects.filter(price="7").values_list("pk", flat=True))


def _set_price() -> None:
    article = Article.objects.get(pk=3)
    article.price = Decimal("7.00")
    article.save()


def _viewed_once() -> list[int]:
    return list(Article.objects.filter(views=1).values_list("pk", flat=True))


def _count_view() -> None:
    article = Article.objects.get(pk=3)
    article.views = F("views") + 1
    article.save()


def _exists() -> list[int]:
    new = Article.objects.filter(author=OuterRef("pk"), title="new")
    return list(Author.objects.filter(Exists(new)).values_list("pk", flat=True))


def _subquery() -> list[str | None]:
    new = Article.objects.filter(author=OuterRef("pk"), title="new").values("title")[:1]
    return list(Author.objects.order_by("pk").annotate(found=Subquery(new)).values_list("found", flat=True))


def _in() -> list[int]:
    new = Article.objects.filter(title="new").values("author")
    return list(Author.objects.filter(pk__in=new).values_list("pk", flat=True))


def _save() -> None:
    retitled().save()


def _remarks() -> int:
    return Remark.objects.count()


def db_cascade(stage: Stage) -> Result:
    if not HAS_DB_CASCADE:
        return NOT_APPLICABLE
    return asked("remarks", _remarks, partial(delete, stage), stage)


def misses(stage: Stage) -> Result:
    return str(computations(stage, 50, time.time() + 0.5))


def misses_of_processes(stage: Stage) -> Result:
    begin_at = time.time() + 4
    writers = [stage.writer(f"misses {begin_at}") for _ in range(4)]
    return str(sum(int(writer.communicate()[0]) for writer in writers))


def no_database_at_begin(stage: Stage) -> Result:
    """The database cannot be reached when a transaction begins; it can a moment later."""
    stage.warm()
    article = retitled()
    connection.close()
    port, connection.settings_dict["PORT"] = connection.settings_dict["PORT"], free_port()
    with suppress(OperationalError), transaction.atomic():
        pass
    connection.settings_dict["PORT"] = port
    connection.close()
    article.save()
    if not stage.is_fresh():
        return False
    with transaction.atomic():
        retitled(2).save()
    return stage.is_fresh()


def replica(stage: Stage) -> Result:
    """Read through one alias, written through another, of one database."""
    stage.warm("ReplicaView")
    retitled().save()
    return stage.is_fresh("ReplicaView")


def old_snapshot_of_redis(stage: Stage) -> Result:
    """Redis comes back with what it had on disk: the entry, and not its invalidation."""
    stage.warm()
    stage.redis().save()
    retitled().save()
    stage.kill_server()
    stage.start_server()
    return _settles(stage, 3)


def read_without_redis(stage: Stage) -> Result:
    stage.warm()
    stage.kill_server()
    return _timed(lambda: bool(stage.read() == stage.truth()))


def write_without_redis(stage: Stage) -> Result:
    stage.warm()
    article = retitled()
    stage.kill_server()

    def write() -> bool:
        article.save()
        return bool(stage.truth()[0]["title"] == "new")

    return _timed(write)


def redis_comes_back(stage: Stage) -> Result:
    """It was away during a write, and has lost nothing. Two processes read."""
    elsewhere = stage.reader()
    stage.warm()
    article = retitled()
    time.sleep(1.1)  # its file is synced each second
    stage.kill_server()
    with suppress(Exception):  # counted in the case before
        article.save()
    stage.start_server()
    return _settles(stage, 8, stage.read, elsewhere)


def redis_pauses(stage: Stage, *, forgets: bool = False) -> Result:
    """It does not answer for 0.3 s, and a write comes just then. Another process reads.

    What was sent to it is done when it goes on, whether or not the writer still waits, unless it is told to run a
    script that it does not know (`forgets`): as in the first write after it was started.
    """
    retitled(2).save()
    elsewhere = stage.reader()
    stage.warm()
    article = retitled()
    if forgets:
        stage.redis().script_flush()
    stage.process.send_signal(signal.SIGSTOP)
    resumed = in_thread(partial(_resume, stage))
    try:
        article.save()
    finally:
        resumed.result()
    return _settles(stage, 3, elsewhere)


def _resume(stage: Stage) -> None:
    time.sleep(0.3)
    stage.process.send_signal(signal.SIGCONT)


def _timed(act: Callable[[], bool]) -> Result:
    begun_at = time.monotonic()
    try:
        word = "✓" if act() else "✗"
    except Exception as error:
        word = f"err {type(error).__name__}"
    seconds = time.monotonic() - begun_at
    return f"{word} {seconds:.1f} s" if seconds >= 0.5 else word


def _settles(stage: Stage, seconds: float, *reads: Callable[[], object]) -> Result:
    since = until_settled(stage, seconds, *reads)
    if since is None:
        return False
    return f"after {since:.1f} s" if since >= 0.1 else True


CASES = [
    Case(name="a save()", run=after(save)),
    Case(name="a create()", run=after(create)),
    Case(name="a delete()", run=after(delete)),
    Case(name="b QuerySet.update()", run=after(update)),
    Case(name="b bulk_create()", run=after(bulk_create)),
    Case(name="b bulk_update()", run=after(bulk_update)),
    Case(name="b QuerySet.delete()", run=after(queryset_delete)),
    Case(name="b raw UPDATE", run=after(raw_update)),
    Case(name="b raw WITH … UPDATE", run=after(raw_with_update)),
    Case(name="b written outside Django", run=after(outside)),
    Case(name="c many-to-many add", run=after(m2m_add)),
    Case(name="c remove", run=after(m2m_remove)),
    Case(name="c clear", run=after(m2m_clear)),
    Case(name="c set", run=after(m2m_set)),
    Case(name="c reverse add", run=after(reverse_add)),
    Case(name="c reverse remove", run=after(reverse_remove)),
    Case(name="c reverse clear", run=after(reverse_clear)),
    Case(name="c rows of the through table deleted", run=after(through_delete)),
    Case(name="d save() of a nested row (select_related)", run=after(author_save)),
    Case(name="d update() of a nested row", run=after(author_update)),
    Case(name="d save() of a nested row (prefetch_related)", run=after(tag_save)),
    Case(name="d foreign key reassigned", run=after(reassign)),
    Case(name="d cascade by Django", run=after(cascade)),
    Case(name="d cascade by the database (DB_CASCADE)", run=db_cascade),
    Case(name="e rollback", run=after(rollback)),
    Case(name="e read elsewhere while the transaction is open", run=after(read_while_open)),
    Case(name="e savepoint rolled back, outer one commits", run=after(savepoint)),
    Case(name="e set_autocommit(False), commit()", run=after(manual_commit)),
    Case(name="f stale set, writer in autocommit", run=partial(stale_set, Article.save)),
    Case(name="f stale set, writer in a transaction", run=partial(stale_set, _save_in_transaction)),
    Case(name="f read between invalidation and UPDATE", run=read_before_update),
    Case(name="f writer killed after COMMIT", run=killed_after_commit, alone=True),
    Case(name="f the same, read just before COMMIT", run=killed_after_commit_filled, alone=True),
    Case(name="g a transaction reads its own write", run=own_write),
    Case(name="g a transaction that only reads is served", run=hit_in_transaction),
    Case(name="g uncommitted state is not stored", run=uncommitted),
    Case(name="g REPEATABLE READ does not store the past", run=snapshot),
    Case(name="h computations, 50 misses in one process", run=misses, alone=True),
    Case(name="h computations, 48 misses in 4 processes", run=misses_of_processes, alone=True),
    Case(name="k filter(price='7'), saved as 7.00", run=partial(asked, "price", _price_as_text, _set_price)),
    Case(name="k save() with F()", run=partial(asked, "views", _viewed_once, _count_view)),
    Case(name="k Exists()", run=partial(asked, "exists", _exists, _save)),
    Case(name="k Subquery()", run=partial(asked, "subquery", _subquery, _save)),
    Case(name="k __in a subquery", run=partial(asked, "in", _in, _save)),
    Case(name="r read through another alias", run=replica),
    Case(name="r database away at BEGIN, once", run=no_database_at_begin, alone=True),
    Case(name="r Redis restarts from an older snapshot", run=old_snapshot_of_redis, alone=True),
    Case(name="r read while Redis is away", run=read_without_redis, alone=True, persistent=True),
    Case(name="r write while Redis is away", run=write_without_redis, alone=True, persistent=True),
    Case(name="r Redis pauses for 0.3 s in a write", run=redis_pauses, alone=True),
    Case(name="r the same, just after SCRIPT FLUSH", run=partial(redis_pauses, forgets=True), alone=True),
    Case(name="r after Redis is back", run=redis_comes_back, alone=True, persistent=True),
]
