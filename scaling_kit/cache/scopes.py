"""Scopes: the rows of a table that belong together (of one tenant, one author), so that a write in one scope leaves
what was made of the others.

    scopes.register(Article, "tenant", immutable=True)                              # in AppConfig.ready()
    @cached_response(scope=lambda request: {Article: request.user.tenant_id})       # on the view

A scoped answer depends on `table.article|tenant_id=7` and `table.article~`, the writes whose rows are unknown, instead
of `table.article`. Whether a statement keeps to the scope is read from its SQL, on both sides; where that does not say
so for certain, it is one of the whole table. So a scope that is declared and not kept costs hits, never rightness.
"""

from __future__ import annotations

import functools
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, IntegerField, Model, UUIDField

from scaling_kit.cache import conditions, statements
from scaling_kit.cache.tags import of_table

MOST_ROWS = 1000
MOST_SCOPES = 100
"""A statement that writes more rows, or in more scopes, than this is one of the whole table."""

Scope = Mapping[type[Model], Any]


@dataclass(kw_only=True)
class _Registered:
    model: type[Model]
    immutable: bool
    field: Field[Any, Any]

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def column(self) -> str:
        return str(self.field.column)

    @property
    def primary_key(self) -> str | None:
        column: str | None = self.model._meta.pk.column
        return column  # None where it is several columns

    @functools.cached_property
    def tag(self) -> str:
        return of_table(self.table)

    def spell(self, value: Any) -> str | None:
        """One spelling for what is one value to the database; None if it is none."""
        if not isinstance(value, (uuid.UUID, str) if self.is_uuid else (int, str)):  # 7.5 is rounded, or not
            return None
        try:
            return uuid.UUID(str(value)).hex if self.is_uuid else str(int(value))
        except (TypeError, ValueError):
            return None

    @functools.cached_property
    def is_uuid(self) -> bool:
        return isinstance(_target(self.field), UUIDField)


_registered: dict[str, _Registered] = {}
_current: ContextVar[Mapping[str, str] | None] = ContextVar("scaling_kit_cache_scope", default=None)


def register(model: type[Model], field: str, *, immutable: bool = False) -> None:
    """The rows of this model belong to the scope that `field` of it names.

    The field holds integers or UUIDs, or is a foreign key to such. `immutable` promises that no row ever changes its
    scope: then the one of a row that is saved or deleted can be looked up without locking that row.

    Raises `django.core.exceptions.FieldDoesNotExist`, `ValueError`.
    """
    found = model._meta.get_field(field)
    if not isinstance(found, Field) or found.model._meta.concrete_model is not model._meta.concrete_model:
        raise ValueError(f"{model._meta.label}.{field} is no column of {model._meta.db_table}: register its own model")
    if not isinstance(_target(found), (IntegerField, UUIDField)):  # collations make one of several spellings of a text
        raise ValueError(f"{model._meta.label}.{field} must hold integers or UUIDs to name a scope")  # noqa: TRY004
    _registered[model._meta.db_table] = _Registered(model=model, immutable=immutable, field=found)


def unregister(model: type[Model]) -> None:
    """For tests."""
    del _registered[model._meta.db_table]


def expected(scope: Scope) -> frozenset[str]:
    """The tags of an answer that keeps to this scope. Raises `ValueError` for a model that is not registered."""
    return frozenset(tag for table, value in _spelled(scope).items() for tag in (_unknown(table), _tag(table, value)))


@contextmanager
def within(scope: Scope) -> Iterator[None]:
    """What the body reads of these models is looked at for whether it keeps to their scopes."""
    token = _current.set(_spelled(scope))
    try:
        yield
    finally:
        _current.reset(token)


def of_read(reads: frozenset[str], sql: str, params: Any) -> frozenset[str]:
    """`reads`, with the tags of its scope for each table whose rows the statement restricts to it."""
    current = _current.get()
    if current is None or not isinstance(params, (tuple, list)):
        return reads
    found = set(reads)
    for table, value in current.items():
        tag = of_table(table)
        if tag in found and _values_read(sql, params, _registered[table]) == {value}:
            found -= {tag}
            found |= {_unknown(table), _tag(table, value)}
    return frozenset(found)


def of_write(
    writes: frozenset[str], sql: str, params: Any, *, many: bool, connection: BaseDatabaseWrapper
) -> frozenset[str]:
    """`writes`, and for each table with scopes which of them: those of the rows written, or the unknown one.

    To be called before the statement is executed: may look up the scopes that its rows are in.
    """
    if not _registered:
        return writes
    found = set(writes)
    for table, registered in _registered.items():
        if registered.tag in writes:
            is_clear = not many and isinstance(params, (tuple, list))
            values = _values_written(sql, params, registered, connection) if is_clear else None
            found |= {_unknown(table)} if values is None else {_tag(table, value) for value in values}
    return frozenset(found)


def widened(tags: Iterable[str]) -> set[str]:
    """These, and the unknown scope of each table that is among them without a scope: nobody knows its rows."""
    found = set(tags)
    for table in _registered:
        tag = of_table(table)
        if tag in found and not any(one.startswith((f"{tag}|", f"{tag}~")) for one in found):
            found.add(_unknown(table))
    return found


def of_instance(instance: Model) -> set[str]:
    """The tag of its scope, if its model has scopes."""
    registered = _registered.get(instance._meta.db_table)
    value = registered and _value_of(registered, instance)
    return {_tag(registered.table, value)} if registered and value else set()


def _spelled(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for model, value in scope.items():
        registered = _registered.get(model._meta.db_table)
        if registered is None:
            raise ValueError(
                f"scope names {model._meta.label}, which has none: scopes.register({model.__name__}, field) in ready()"
            )
        spelled = registered.spell(value.pk if isinstance(value, Model) else value)
        if spelled is not None:
            found[registered.table] = spelled
    return found


def _target(field: Field[Any, Any]) -> Field[Any, Any]:
    return _target(field.target_field) if field.is_relation else field  # type: ignore[attr-defined]


def _tag(table: str, value: str) -> str:
    return f"{of_table(table)}|{quote(_registered[table].column, safe='')}={value}"


def _unknown(table: str) -> str:
    return f"{of_table(table)}~"


def _value_of(registered: _Registered, instance: Model) -> str | None:
    return registered.spell(vars(instance).get(registered.field.attname))  # no query for a deferred field


def _values_read(sql: str, params: Sequence[Any], registered: _Registered) -> set[str] | None:
    numbers = conditions.of_read(sql, len(params), registered.table, registered.column)
    return _all_spelled(registered, params, numbers)


def _values_written(
    sql: str, params: Sequence[Any], registered: _Registered, connection: BaseDatabaseWrapper
) -> set[str] | None:
    """The scopes that the rows written are in, before and after; None if that is not known."""
    write = conditions.of_write(sql, len(params))
    if write is None or write.table != registered.table.casefold():
        return None
    column = registered.column.casefold()
    if write.conditions is None:  # the rows are new
        return _all_spelled(registered, params, write.values.get(column))
    if not write.values and statements.deletes_more_of(registered.table):
        return None
    before = _values_before(write.conditions, params, registered, connection)
    if before is None or column not in write.values:
        return before
    after = _all_spelled(registered, params, write.values[column])
    return after and before | after


def _values_before(
    known: Mapping[str, tuple[int, ...]],
    params: Sequence[Any],
    registered: _Registered,
    connection: BaseDatabaseWrapper,
) -> set[str] | None:
    """By a condition on the scope, `filter(tenant=7).update(...)`; else by one on the primary key, as of `save()`."""
    column, primary_key = registered.column.casefold(), str(registered.primary_key).casefold()
    if column in known:
        return _all_spelled(registered, params, known[column])
    if primary_key not in known or len(known[primary_key]) > MOST_ROWS:
        return None
    return _fetch_values([params[number] for number in known[primary_key]], registered, connection)


def _fetch_values(keys: Sequence[Any], registered: _Registered, connection: BaseDatabaseWrapper) -> set[str] | None:
    """The scopes of these rows; None if one may move, or is not there: it may be in a moment."""
    lock = _lock(registered, connection)
    if lock is None:
        return None
    names = registered.column, registered.table, str(registered.primary_key)
    column, table, primary_key = map(connection.ops.quote_name, names)
    marks = ", ".join(["%s"] * len(keys))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {primary_key} IN ({marks}) {lock}", keys)  # noqa: S608
        values = [value for (value,) in cursor.fetchall()]
    is_complete = len(values) == len(set(map(str, keys)))
    return _all_spelled(registered, values, range(len(values))) if is_complete else None


def _lock(registered: _Registered, connection: BaseDatabaseWrapper) -> str | None:
    """What keeps rows in their scope from a SELECT to the statement that follows; None if nothing does."""
    if not connection.in_atomic_block and connection.get_autocommit():
        return "" if registered.immutable else None
    if not connection.features.has_select_for_update:
        return None  # SQLite: a transaction that begins with a SELECT does not wait for its turn to write
    # As the UPDATE itself does: FOR UPDATE would make wait who inserts rows that refer to this one.
    no_key = connection.features.has_select_for_no_key_update
    return "" if registered.immutable else connection.ops.for_update_sql(no_key=no_key)


def _all_spelled(registered: _Registered, params: Sequence[Any], numbers: Iterable[int] | None) -> set[str] | None:
    """The scopes that these parameters name: a value each, or the list of a column's values."""
    given = [params[number] for number in numbers or ()]
    values = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in given)
    spelled = {registered.spell(value) for value in values}
    if None in spelled or not 0 < len(spelled) <= MOST_SCOPES:
        return None
    return {value for value in spelled if value is not None}
