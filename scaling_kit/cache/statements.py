"""Which tables an SQL statement reads or writes.

Not a parser: it may name a table too many, which costs an invalidation, and never one too few. A statement uses every
table of a model whose name occurs in it as a word, in whatever syntax: joins, subqueries, CTEs, unions, raw SQL.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models

from scaling_kit.cache.tags import of_table

# Between quotes on both sides it is the name of a column. `FOR UPDATE` locks, `DO UPDATE` belongs to an INSERT.
# INTO without INSERT is SELECT's, or LOAD DATA's. REPLACE needs no INTO on MySQL; with a parenthesis it is a function.
_WRITE = (
    r"(?:(?<!\bFOR )(?<!\bKEY )(?<!\bDO )UPDATE|INSERT(?:\s+INTO)?|DELETE|MERGE|TRUNCATE|INTO"
    r"|ALTER|CREATE|DROP|RENAME|COPY|REFRESH|REPLACE(?!\s*\())"
)
_WRITES = re.compile(rf"(?<![\w\"`]){_WRITE}\b|\b{_WRITE}(?![\w\"`])", re.IGNORECASE)
# As Django spells the statements that write one table and at most read others.
_TARGET = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) [\"`](\w+)[\"`](?: SET | WHERE | \(|$)", re.IGNORECASE)
_REMOVES = re.compile(r"\b(?:DELETE|TRUNCATE|MERGE|REPLACE)\b", re.IGNORECASE)
_REMOVES_ALL = re.compile(r"\bTRUNCATE\b.*\bCASCADE\b", re.IGNORECASE | re.DOTALL)
_RETURNS = re.compile(r"(?:(?!INSERT\b)|.*\bCONFLICT\b).*\bRETURNING\b", re.IGNORECASE | re.DOTALL)
# Wherever it is said: after a comment, in a second statement, by `set_config`.
_ISOLATION = re.compile(r"\b(?:SET|BEGIN|START|SET_CONFIG)\b.*ISOLATION", re.IGNORECASE | re.DOTALL)
_ESCAPED_NAME = re.compile(r"U&\"", re.IGNORECASE)
# What may be put between BEGIN and COMMIT if it is not there already.
_PLAIN = re.compile(r"\s*(?:WITH|INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d][\w$]*")

LONGEST_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Statement:
    """`reads` and `writes` are tags. `isolates`: it changes the isolation level. `is_plain_write`: it can be part of a
    transaction, and does not end one."""

    reads: frozenset[str]
    writes: frozenset[str]
    isolates: bool = False
    is_plain_write: bool = False


def parse(sql: str) -> Statement:
    # A bulk INSERT may be megabytes long and is never seen again.
    return _remembered(sql) if len(sql) <= LONGEST_REMEMBERED else _parse(sql)


def tables() -> list[str]:
    """The table of every model, those behind many-to-many fields included."""
    return sorted(_words_of_tables())


def deletes_more_of(table: str) -> bool:
    """May the database delete or change rows of this table by itself because other rows of it go?"""
    return table in _with_children(frozenset(_dependents().get(table, ())), _dependents())


def _parse(sql: str) -> Statement:
    named = _named(sql)
    keywords = _WRITES.findall(sql)
    written = _written(sql, named, len(keywords))
    # The words of a write may be those of a text or a comment: then it reads what it names. What surely writes does
    # not read its own table, or a view that keeps a log would never be stored, unless it says what was in there.
    surely_writes = len(keywords) == 1 and _TARGET.match(sql) and not _RETURNS.match(sql)
    return Statement(
        reads=frozenset(map(of_table, named - written if surely_writes else named)),
        writes=frozenset(map(of_table, written)),
        isolates=_ISOLATION.search(sql) is not None,
        is_plain_write=_PLAIN.match(sql) is not None and ";" not in sql.rstrip("; \n"),
    )


_remembered = functools.lru_cache(maxsize=4096)(_parse)


def _named(sql: str) -> frozenset[str]:
    if _ESCAPED_NAME.search(sql):
        return frozenset(_words_of_tables())
    words = _words(sql)
    return frozenset(table for table, needed in _words_of_tables().items() if needed <= words)


def _written(sql: str, named: frozenset[str], keywords: int) -> frozenset[str]:
    if not keywords:
        return frozenset()
    target = _TARGET.match(sql)
    if keywords == 1 and target and target[1] in _words_of_tables():
        named = frozenset({target[1]})
    if _REMOVES_ALL.search(sql):
        return _with_children(named, _referrers())
    return _with_children(named, _dependents()) if _REMOVES.search(sql) else named


def _with_children(removed: frozenset[str], children: dict[str, set[str]]) -> frozenset[str]:
    """The tables too whose rows the database itself removes or changes when rows of `removed` go."""
    found, new = set(removed), set(removed)
    while new:
        new = {child for table in new for child in children.get(table, ())} - found
        found |= new
    return frozenset(found)


@functools.cache
def _words_of_tables() -> dict[str, frozenset[str]]:
    return {model._meta.db_table: _words(model._meta.db_table) for model in _models()}


@functools.cache
def _dependents() -> dict[str, set[str]]:
    return _tables_by_target(_is_left_to_the_database)


@functools.cache
def _referrers() -> dict[str, set[str]]:
    return _tables_by_target(lambda _: True)


def _tables_by_target(is_meant: Callable[[models.ForeignKey[Any, Any]], bool]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for model in _models():
        for field in model._meta.local_fields:
            if isinstance(field, models.ForeignKey) and is_meant(field):
                found.setdefault(field.related_model._meta.db_table, set()).add(model._meta.db_table)
    return found


def _is_left_to_the_database(field: models.ForeignKey[Any, Any]) -> bool:
    # Django ≥ 6.1: DB_CASCADE and its like are instances. Before that, a migration may have added the clause.
    on_delete = field.remote_field.on_delete
    return on_delete is models.DO_NOTHING or not hasattr(on_delete, "__code__")


def _models() -> Iterator[type[models.Model]]:
    yield from apps.get_models(include_auto_created=True, include_swapped=True)


def _words(text: str) -> frozenset[str]:
    # One by one: what `lower()` makes of a Σ depends on what is next to it.
    return frozenset(word.casefold() for word in _WORD.findall(text))
