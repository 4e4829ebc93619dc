"""Sees every statement of every database connection, whoever issued it.

What is read goes into the current recording: nothing has to declare what it depends on. What is written is bumped as
soon as it is committed: `save()` and what no signal tells of, `QuerySet.update`, `bulk_*`, through tables, raw SQL. In
strict mode it is marked before that as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from scaling_kit.cache import commits, marks, outbox, scopes, statements, unsent
from scaling_kit.cache.conf import settings
from scaling_kit.cache.marks import Mark
from scaling_kit.cache.tags import EPOCH, of_table

T = TypeVar("T")

blocks_around_test: dict[BaseDatabaseWrapper, int] = {}
"""How many atomic blocks of a connection are not of the code under test: `scaling_kit.cache.testing` says so."""

_recording: ContextVar[set[str] | None] = ContextVar("scaling_kit_cache_recording", default=None)


def connect() -> None:
    """Watch the connections of this process, those open already and those to come."""
    connection_created.connect(_begin_session, dispatch_uid="scaling_kit.cache.observer")
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def forget_everything(**_: Any) -> None:
    """Receiver of `post_migrate`: tables may mean something else now."""
    unsent.bump({EPOCH})


@contextmanager
def recording() -> Iterator[set[str]]:
    """Collect the tags of what is read in the body, which an outer recording gets as well.

    Sees the statements of this thread, and of `sync_to_async` threads; not those of threads the body starts itself.
    """
    outer = _recording.get()
    read: set[str] = set()
    token = _recording.set(read)
    try:
        yield read
    finally:
        _recording.reset(token)
        if outer is not None:
            outer |= read


def is_recording() -> bool:
    return _recording.get() is not None


def depend_on(tags: frozenset[str]) -> None:
    """Add to the current recording, if there is one, what was read from the cache instead of the database."""
    read = _recording.get()
    if read is not None:
        read |= tags


def changed(tags: set[str], *, using: str) -> None:
    """Bump when the transaction of this database commits; at once if there is none."""
    _watch(connections[using]).changed(scopes.widened(tags))


def reason_for_doubt() -> str:
    """Why nothing may be read from the cache or stored in it at this moment; empty if it may.

    `transaction`: a transaction of this thread has written, and sees what no one else sees yet.
    `isolation`: a transaction reads from a snapshot, which may be older than what the cache knows.
    """
    for connection in connections.all(initialized_only=True):
        if is_in_transaction(connection):
            observer = _watch(connection)
            if observer.written:
                return "transaction"
            if not observer.sees_commits():
                return "isolation"
    return ""


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    # Not `get_autocommit()`: that would open a connection which a hit does not need.
    if connection in blocks_around_test:
        blocks = connection.in_atomic_block + len(connection.savepoint_ids)
        return blocks > blocks_around_test[connection] or bool(_watch(connection).written)
    return connection.connection is not None and (connection.in_atomic_block or not connection.autocommit)


class Observer:
    """One connection's statements. Kept in the list of its `execute_wrappers`."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self.written: set[str] = set()
        self._mark: Mark | None = None
        self._isolated_transaction = self._isolated_session = False
        self._commit, self._rollback = connection.commit, connection.rollback
        # Django's `on_commit` is too late: a hook registered before the write runs first, and may tell the world.
        # It also cannot be used with `set_autocommit(False)`. A bump has to come before every hook.
        connection.commit = self.commit  # type: ignore[method-assign]
        connection.rollback = self.rollback  # type: ignore[method-assign]

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        text = _text(sql, self._connection)
        statement = statements.parse(text)
        ignored = _ignored(tuple(settings.IGNORED_TABLES))
        if _recording.get() is not None:
            depend_on(scopes.of_read(statement.reads - ignored, text, params))
        if statement.isolates:
            self._note_isolation(text)
        if not statement.writes:
            return execute(sql, params, many, context)
        return self._write(
            self._scoped(statement.writes - ignored, text, params, many=many),
            functools.partial(execute, sql, params, many, context),
            can_be_in_transaction=statement.is_plain_write,
        )

    def changed(self, tags: set[str] | frozenset[str]) -> None:
        if is_in_transaction(self._connection):
            self.written |= tags
        else:
            unsent.bump(tags)

    def commit(self) -> None:
        tags = self.written
        mark = self._announce(tags, self._mark)
        # If it fails, `written` stays: there may be another commit to come.
        with commits.published(tags, mark):
            self._commit()
            self._forget_transaction()

    def rollback(self) -> None:
        self._rollback()
        self._forget_transaction()

    def sees_commits(self) -> bool:
        """Does a statement of a transaction see what was committed before that statement began?"""
        level = getattr(self._connection, "isolation_level", None)  # PostgreSQL: an enum; MySQL: a string
        name = str(getattr(level, "name", level)).replace("_", " ").lower()
        return name == "read committed" and not self._isolated_transaction and not self._isolated_session

    def forget_session(self) -> None:
        """The connection has been opened anew."""
        self._forget_transaction()
        self._isolated_session = False

    def _scoped(self, writes: frozenset[str], sql: str, params: Any, *, many: bool) -> frozenset[str]:
        token = _recording.set(None)  # what is looked up for that is not shown
        try:
            return scopes.of_write(writes, sql, params, many=many, connection=self._connection)
        finally:
            _recording.reset(token)

    def _write(self, tags: frozenset[str], run: Callable[[], T], *, can_be_in_transaction: bool) -> T:
        if is_in_transaction(self._connection):
            # Even if it fails: an error does not prove that nothing was written.
            self.written |= tags
            return run()
        mark = marks.put(tags) if settings.STRICT and tags else None
        if mark and not mark.is_set and can_be_in_transaction and self._is_known_to_django():
            with transaction.atomic(using=self._connection.alias):
                self.written, self._mark = set(tags), mark
                return run()
        with commits.published(tags, mark):
            return run()

    def _announce(self, tags: set[str], mark: Mark | None) -> Mark | None:
        """Strict mode: before the COMMIT, have Redis know what is about to change, or the database remember it."""
        if not (settings.STRICT and tags):
            return None
        mark = mark or marks.put(tags)
        if not mark.is_set:
            outbox.write(self._connection, tags)
        return mark

    def _is_known_to_django(self) -> bool:
        # `connection.copy()` has the same alias, and no `atomic`.
        return connections[self._connection.alias] is self._connection

    def _forget_transaction(self) -> None:
        self.written = set()
        self._mark = None
        self._isolated_transaction = False

    def _note_isolation(self, sql: str) -> None:
        text = sql.upper()
        if "SESSION" in text or "DEFAULT_" in text:
            self._isolated_session = True
        else:
            self._isolated_transaction = True


def _begin_session(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receiver of `connection_created`, which is sent whenever a connection is opened, again or for the first time."""
    _watch(connection).forget_session()


def _watch(connection: BaseDatabaseWrapper) -> Observer:
    """The observer of this connection, put there if it has none yet."""
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, Observer):
            return wrapper
    observer = Observer(connection)
    # At the front: `with connection.execute_wrapper(...)` takes away the last one when it ends.
    connection.execute_wrappers.insert(0, observer)
    return observer


@functools.lru_cache(maxsize=8)
def _ignored(tables: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(of_table, [*tables, outbox.TABLE]))


def _text(sql: Any, connection: BaseDatabaseWrapper) -> str:
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode()
    return str(sql.as_string(connection.connection))  # psycopg's sql.Composed
