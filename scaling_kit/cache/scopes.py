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
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.db.models import Field, IntegerField, Model, UUIDField
from django.db.models.signals import post_save, pre_save

from scaling_kit.cache.tags import of_table

REMEMBERED_ROWS = 10_000

# By these a condition may be one of several, or not one of the whole statement; or it is no statement of Django's.
_NOT_SURE = re.compile(
    r"\b(?:OR|UNION|EXCEPT|INTERSECT|CASE|RETURNING|CONFLICT|USING|WITH)\b|\bNOT\s*\(|;|'|--|/\*", re.IGNORECASE
)
_TABLES = re.compile(r"(?:\b(?:FROM|JOIN|UPDATE|INTO)\s+|,\s*)[\"`]?([^\W\d][\w$]*)[\"`]?(?![\w$\"`.])", re.IGNORECASE)
# One of several conditions that must all hold, and no part of a larger expression.
_BEFORE_A_CONDITION = r"(?:^|\bAND )\(*"
_AFTER_A_CONDITION = r"(?=\)*(?:\s+AND\b|\s*$))"
_AFTER_ALL_CONDITIONS = re.compile(
    r"\s(?:GROUP BY|HAVING|ORDER BY|LIMIT|OFFSET|FETCH|FOR)\b.*", re.IGNORECASE | re.DOTALL
)
_INSERT = re.compile(r"INSERT INTO [\"`](\w+)[\"`] \(([^)]*)\) VALUES (\((?:%s, )*%s\)(?:, \((?:%s, )*%s\))*)$")
_UPDATE = re.compile(r"UPDATE [\"`](\w+)[\"`] SET (.*) WHERE [\"`]\1[\"`]\.[\"`](\w+)[\"`] = %s$")

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
    def primary_key(self) -> str:
        return str(self.model._meta.pk.column)

    def spell(self, value: Any) -> str | None:
        """One spelling for what is one value to the database; None if it is none."""
        try:
            return uuid.UUID(str(value)).hex if self.is_uuid else str(int(value))
        except (TypeError, ValueError):
            return None

    @functools.cached_property
    def is_uuid(self) -> bool:
        return isinstance(_target(self.field), UUIDField)


_registered: dict[str, _Registered] = {}
_current: ContextVar[Mapping[str, str] | None] = ContextVar("scaling_kit_cache_scope", default=None)


class _Rows:
    """The scope of rows that this process has saved: of an immutable field it stays true for good."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, table: str, primary_key: Any, value: str) -> None:
        row = table, str(primary_key)
        with self._lock:
            if self._values.get(row, value) != value:  # it changes all the same: of this save nothing is known
                del self._values[row]
                return
            self._values[row] = value
            while len(self._values) > REMEMBERED_ROWS:
                self._values.popitem(last=False)

    def find(self, table: str, primary_key: Any) -> str | None:
        return self._values.get((table, str(primary_key)))


_rows = _Rows()


def register(model: type[Model], field: str, *, immutable: bool = False) -> None:
    """The rows of this model belong to the scope that `field` of it names.

    The field holds integers or UUIDs, or is a foreign key to such. `immutable` promises that no row ever changes its
    scope; only then does `save()` of a row stay in it. Raises `django.core.exceptions.FieldDoesNotExist`, `ValueError`.
    """
    found = model._meta.get_field(field)
    if not isinstance(found, Field) or found.model._meta.concrete_model is not model._meta.concrete_model:
        raise ValueError(f"{model._meta.label}.{field} is no column of {model._meta.db_table}: register its own model")
    if not isinstance(_target(found), (IntegerField, UUIDField)):  # collations make one of several spellings of a text
        raise ValueError(f"{model._meta.label}.{field} must hold integers or UUIDs to name a scope")  # noqa: TRY004
    _registered[model._meta.db_table] = _Registered(
        model=model,
        immutable=immutable,
        field=found,
    )
    _parameter_of.cache_clear()
    if immutable:
        for signal in (pre_save, post_save):
            signal.connect(_remember, sender=model, dispatch_uid=_receiver_of(model))


def unregister(model: type[Model]) -> None:
    """For tests."""
    del _registered[model._meta.db_table]
    for signal in (pre_save, post_save):
        signal.disconnect(sender=model, dispatch_uid=_receiver_of(model))
    _parameter_of.cache_clear()


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
    if current is None:
        return reads
    found = set(reads)
    for table, value in current.items():
        tag = of_table(table)
        if tag in found and _value_in(sql, params, table) == value:
            found -= {tag}
            found |= {_unknown(table), _tag(table, value)}
    return frozenset(found)


def of_write(writes: frozenset[str], sql: str, params: Any, *, many: bool) -> frozenset[str]:
    """`writes`, and for each table with scopes which of them: those of the rows written, or the unknown one."""
    if not _registered:
        return writes
    found = set(writes)
    for table in _registered:
        if of_table(table) in writes:
            values = None if many else _values_written(sql, params, _registered[table])
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


def _receiver_of(model: type[Model]) -> str:
    return f"scaling_kit.cache.scopes.{model._meta.label}"


def _remember(sender: type[Model], instance: Model, **_: Any) -> None:
    """Receiver of `pre_save`, and of `post_save` for rows that are new."""
    registered = _registered[sender._meta.db_table]
    value = _value_of(registered, instance)
    # Before an INSERT nobody knows whether there is such a row already, of another scope.
    if instance.pk is not None and value is not None and not instance._state.adding:
        _rows.remember(registered.table, instance.pk, value)


def _value_of(registered: _Registered, instance: Model) -> str | None:
    return registered.spell(vars(instance).get(registered.field.attname))  # no query for a deferred field


def _values_written(sql: str, params: Any, registered: _Registered) -> set[str] | None:
    """The scopes of the rows that this statement writes; None if it does not say."""
    if not isinstance(params, (tuple, list)):
        return None
    found = (
        _values_inserted(sql, params, registered)
        or _value_updated(sql, params, registered)
        or _value_restricted(sql, params, registered)
    )
    return None if None in found else {value for value in found if value is not None} or None


def _values_inserted(sql: str, params: Sequence[Any], registered: _Registered) -> set[str | None]:
    match = _INSERT.match(sql.partition(" RETURNING ")[0])
    if not match or match[1] != registered.table:
        return set()
    columns = [column.strip(' "`') for column in match[2].split(",")]
    if registered.column not in columns or len(params) % len(columns):
        return set()
    return {registered.spell(value) for value in params[columns.index(registered.column) :: len(columns)]}


def _value_updated(sql: str, params: Sequence[Any], registered: _Registered) -> set[str | None]:
    """Of one row, named by its primary key, whose scope is known and stays."""
    match = _UPDATE.match(sql)
    if not registered.immutable or not match or (match[1], match[3]) != (registered.table, registered.primary_key):
        return set()
    value = _rows.find(registered.table, params[-1])
    assigned = re.search(rf"[\"`]{re.escape(registered.column)}[\"`] = (%s)?", match[2])
    if assigned:
        index = match[2][: assigned.end()].replace("%%", "").count("%s") - 1
        if not assigned[1] or registered.spell(params[index]) != value:  # it leaves its scope all the same
            return set()
    return {value} if value else set()


def _value_restricted(sql: str, params: Sequence[Any], registered: _Registered) -> set[str | None]:
    """Of `filter(tenant=7).update(...)` or `.delete()`, which leave rows in their scope."""
    assignments = sql.partition(" WHERE ")[0]
    if re.search(rf"[\"`]{re.escape(registered.column)}[\"`]\s*=", assignments):
        return set()
    value = _value_in(sql, params, registered.table)
    return {value} if value else set()


def _value_in(sql: str, params: Any, table: str) -> str | None:
    """The value to which the statement restricts the scope of this table, if it surely does."""
    if not isinstance(params, (tuple, list)):
        return None
    index = _parameter_of(sql, table)
    return None if index is None or index >= len(params) else _registered[table].spell(params[index])


@functools.lru_cache(maxsize=4096)
def _parameter_of(sql: str, table: str) -> int | None:
    """Which parameter the statement compares the scope of this table with, as one of the conditions of its only WHERE.

    For statements as Django spells them; of any other it says None.
    """
    before, where, conditions = sql.partition(" WHERE ")
    if not where or "WHERE" in conditions.upper() or _NOT_SURE.search(sql):
        return None
    if [name.lower() for name in _TABLES.findall(sql)].count(table.lower()) != 1:
        return None
    name = rf"[\"`]{re.escape(table)}[\"`]\.[\"`]{re.escape(_registered[table].column)}[\"`]"
    match = re.search(
        rf"{_BEFORE_A_CONDITION}({name} = )%s{_AFTER_A_CONDITION}", _AFTER_ALL_CONDITIONS.sub("", conditions)
    )
    if not match:
        return None
    return (before + where + conditions[: match.start(1)]).replace("%%", "").count("%s")
