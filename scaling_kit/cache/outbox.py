"""Bumps that are kept in the database until Redis has them.

A row is written in the transaction whose changes it tells of, so it is there if and only if they are. Strict mode
writes one when Redis cannot be told before the COMMIT; so do the triggers of `scaling_kit.cache.triggers`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from scaling_kit.cache import scopes, tags, unsent

logger = logging.getLogger(__name__)

TABLE = "scaling_kit_cache_outbox"
ROWS_AT_ONCE = 1000


def write(connection: BaseDatabaseWrapper, names: Iterable[str]) -> None:
    """Add a row to the transaction that is open on this connection.

    Never fails it: if the row cannot be written (the table is missing), an error is logged, and the transaction is as
    it was before.
    """
    try:
        with _savepoint(connection), connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {TABLE} (tags) VALUES (%s)", ["\n".join(sorted(names))])  # noqa: S608
    except Exception:
        logger.exception("outbox row unwritten database=%s; the bump is only in memory", connection.alias)


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    savepoint = connection.savepoint() or ""  # not `atomic`: Django is at the end of its own one
    try:
        yield
    except BaseException:
        if savepoint:
            connection.savepoint_rollback(savepoint)
        raise
    if savepoint:
        connection.savepoint_commit(savepoint)


def databases() -> list[str]:
    """The aliases of the databases that should have the table, as the project's routers say."""
    return [
        alias for alias in connections if router.allow_migrate(alias, "scaling_kit_cache", model_name="pendingbump")
    ]


def sweep() -> int:
    """Bump what is in the outbox of every database, then delete it; return how many rows there were.

    Any process may, any number at once, also for a scheduled job: a tag bumped twice does no harm. Uses database
    connections of its own, so it may be called within a transaction. Raises what one of the databases or Redis raised,
    after all have been tried; the rows are still there then.
    """
    rows, failure = 0, None
    for alias in databases():
        try:
            rows += _sweep(alias)
        except Exception as error:
            logger.warning("outbox unswept database=%s error=%r", alias, str(error))
            failure = failure or error
    if failure:
        raise failure
    return rows


def _sweep(alias: str) -> int:
    connection = connections[alias].copy()
    try:
        connection.set_autocommit(True)  # whatever the settings say
        rows = 0
        while found := _sweep_some(connection):
            rows += found
            if found < ROWS_AT_ONCE:
                break
    finally:
        connection.close()
    if rows:
        logger.info("outbox swept database=%s rows=%d", alias, rows)
    return rows


def _sweep_some(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, tags FROM {TABLE} ORDER BY id LIMIT {ROWS_AT_ONCE}")  # noqa: S608
        rows = cursor.fetchall()
        if rows:
            tags.bump(_some_or_all({tag for _, lines in rows for tag in scopes.widened(lines.splitlines())}))
            ids = ", ".join(str(int(row_id)) for row_id, _ in rows)
            cursor.execute(f"DELETE FROM {TABLE} WHERE id IN ({ids})")  # noqa: S608
    return len(rows)


def _some_or_all(names: set[str]) -> set[str]:
    return names if len(names) <= unsent.MOST else {tags.EPOCH}
