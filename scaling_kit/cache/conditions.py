"""To which parameters the conditions of a statement surely restrict a column: those that every row it uses must meet.

For statements as Django spells them. It may say "not known" of one that is restricted, and never the other way round:
what is not understood, a literal or a comment for example, makes the whole statement one that is not known.

Not by a library: sqlparse's lexer takes ten times as long, and guesses where this gives up; sqlglot's parser has to be
told the dialect, reads `%s` in one of them only, and is 12 MB in each process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from scaling_kit.cache.statements import LONGEST_REMEMBERED

R = TypeVar("R")

# A group in parentheses is a list; a parameter is its number; anything else is a token.
Item = str | int | list["Item"]
Items = list[Item]

# Unclear: literals, comments, several statements, names in escapes or of two pieces, parameters with names.
_TOKEN = re.compile(r"\"[^\"\\]+\"|`[^`\\]+`|%s|[^\W\d]\w*|\d[\w.]*|\|\||(?P<unclear>--|/\*|[\"'`%;$\\#])|\S")
# The only literal that Django writes by itself, for LIKE on SQLite.
_OF_LIKE = r" ESCAPE '\'"
_DEEPEST = 50

_SET_OPERATIONS = ("UNION", "INTERSECT", "EXCEPT")
_AFTER_CONDITIONS = {"GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING"}
_AFTER_TABLE = {"ON", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "JOIN", "WHERE", *_AFTER_CONDITIONS}
# What binds more loosely than AND (on MySQL also ||); and what has an AND of its own, or is no condition at all.
_LOOSER = {"OR", "XOR", "||"}
_NO_CONJUNCTION = {*_LOOSER, "CASE", "SELECT", "VALUES", "WITH", "WHERE", ","}


@dataclass(frozen=True, kw_only=True)
class Write:
    """An INSERT, UPDATE or DELETE of one table, as numbers of parameters by column.

    `values`: what a column is set to, in each new row or in all; None for an expression. `conditions`: what every row
    that is changed has there; None for an INSERT.
    """

    table: str
    values: dict[str, tuple[int, ...] | None]
    conditions: dict[str, tuple[int, ...]] | None


def _remembered(function: Callable[..., R]) -> Callable[..., R]:
    cached = functools.lru_cache(maxsize=4096)(function)
    return lambda sql, *args: (cached if len(sql) <= LONGEST_REMEMBERED else function)(sql, *args)


@_remembered
def of_read(sql: str, parameters: int, table: str, column: str) -> frozenset[int] | None:
    """The parameters to which this column is restricted wherever the table is used; None if it is not, somewhere."""
    items = _parse(sql, parameters)
    if items is None:
        return None
    found: set[int] = set()
    for restricted in _restricted(items, table.casefold(), column.casefold()):
        if not restricted:
            return None
        found |= set(restricted)
    return frozenset(found) or None


@_remembered
def of_write(sql: str, parameters: int) -> Write | None:
    """None if it is not known which rows this writes, or to what."""
    match _parse(sql, parameters):
        case ["INSERT", "INTO", str(name), [*columns], "VALUES", *rows]:
            return _insert(name, columns, _until(rows, {"RETURNING"}))
        case ["INSERT", "INTO", str(name), [*columns], "SELECT", "*", "FROM", "UNNEST", *rows]:
            return _insert(name, columns, _until(rows, {"RETURNING"}))
        case ["UPDATE", str(name), "SET", *rest] if "FROM" not in rest and "WHERE" in rest:
            where = rest.index("WHERE")
            return _change(name, _assigned(rest[:where]), rest[where + 1 :])
        case ["DELETE", "FROM", str(name), "WHERE", *rest]:
            return _change(name, {}, rest)
    return None


def _parse(sql: str, parameters: int) -> Items | None:
    stack: list[Items] = [[]]
    number = 0
    for match in _TOKEN.finditer(sql.replace(_OF_LIKE, "")):
        text = match[0]
        if match["unclear"] or len(stack) > _DEEPEST:
            return None
        if text == "(":
            stack.append([])
        elif text == ")":
            if len(stack) == 1:
                return None
            group = stack.pop()
            stack[-1].append(group)
        elif text == "%s":
            stack[-1].append(number)
            number += 1
        else:
            stack[-1].append(text if text[0] in '"`' else text.upper())
    return stack[0] if len(stack) == 1 and number == parameters else None


def _restricted(items: Items, table: str, column: str) -> Iterator[tuple[int, ...]]:
    """For each use of the table, in these items and the groups among them; empty where it is not restricted."""
    for select in _split(items, *_SET_OPERATIONS):
        yield from _restricted_in_one(select, table, column)
        for item in select:
            if isinstance(item, list):
                yield from _restricted(item, table, column)


def _restricted_in_one(select: Items, table: str, column: str) -> Iterator[tuple[int, ...]]:
    source, conditions = _clauses(select)
    seen: set[str] = set()
    for index, item in enumerate(select):
        if not isinstance(item, str) or _name(item) != table or select[index + 1 : index + 2] == ["."]:
            continue
        alias = _alias(select, index) if index in source else ""
        yield _conditions(conditions, alias).get(column, ()) if alias not in seen else ()
        seen.add(alias)


def _clauses(select: Items) -> tuple[range, Items]:
    """Where the tables are named, and what is said in WHERE."""
    starts = [i for i, item in enumerate(select) if item == "FROM" and select[i - 1] != "DISTINCT"]
    if "SELECT" not in select or not starts:
        return range(0), []
    start = starts[0] + 1
    end = start + len(_until(select[start:], {"WHERE", *_AFTER_CONDITIONS}))
    has_conditions = select[end : end + 1] == ["WHERE"]
    return range(start, end), select[end + 1 :] if has_conditions else []


def _alias(select: Items, index: int) -> str:
    """The name by which the statement calls the table named here; empty if it is not one of FROM or JOIN."""
    if select[index - 1] not in ("FROM", "JOIN", ","):
        return ""
    after = [item for item in select[index + 1 : index + 3] if item != "AS"]
    has_none = not after or after[0] == "," or _has(after[:1], _AFTER_TABLE)
    return _name(select[index] if has_none else after[0])


def _conditions(rest: Items, table: str) -> dict[str, tuple[int, ...]]:
    """Column → parameters, for each condition `table.column = %s` or `IN (%s, %s)` that surely holds after WHERE."""
    if _has(rest, _LOOSER):  # some databases have columns called `offset` or `window`: it is not known where WHERE ends
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for piece in _conjuncts(_until(rest, _AFTER_CONDITIONS)):
        match piece:
            case [str(name), ".", str(column), "=", int(number)] if _name(name) == table:
                found.setdefault(_name(column), (number,))
            case [str(name), ".", str(column), "IN", [*values]] if _name(name) == table:
                numbers = _all([_parameter(value) for value in _split(values, ",")])
                if numbers is not None:
                    found.setdefault(_name(column), numbers)
    return found


def _conjuncts(items: Items) -> Iterator[Items]:
    """The conditions that all have to be met."""
    if _has(items, _NO_CONJUNCTION):
        return
    piece: Items = []
    for item in [*items, "AND"]:
        if item != "AND" or piece.count("BETWEEN") > piece.count("AND"):
            piece.append(item)
            continue
        match piece:
            case [[*group]]:
                yield from _conjuncts(group)
            case _:
                yield piece
        piece = []


def _insert(name: str, columns: Items, rows: Items) -> Write | None:
    """A row is a group, or PostgreSQL's UNNEST of groups: then each parameter is the list of a column's values."""
    if any(not isinstance(row, list) for row in rows[::2]) or any(item != "," for item in rows[1::2]):
        return None
    pieces = [list(_split(row, ",")) for row in rows[::2] if isinstance(row, list)]
    names = [_name(column) for column in columns[::2] if isinstance(column, str)]
    if any(len(row) != len(names) for row in pieces):
        return None
    values = {name: _all([_parameter(row[i]) for row in pieces]) for i, name in enumerate(names)}
    return Write(table=_name(name), values=values, conditions=None)


def _change(name: str, values: dict[str, tuple[int, ...] | None] | None, where: Items) -> Write | None:
    table = _name(name)
    return None if values is None else Write(table=table, values=values, conditions=_conditions(where, table))


def _assigned(items: Items) -> dict[str, tuple[int, ...] | None] | None:
    found: dict[str, tuple[int, ...] | None] = {}
    for piece in _split(items, ","):
        match piece:
            case [str(column), "=", *value]:
                found[_name(column)] = _all([_parameter(value)])
            case _:
                return None
    return found


def _parameter(piece: Items) -> int | None:
    match piece:
        case [int(number)] | [[int(number)], ":", ":", *_, "[", "]"]:
            return number
    return None


def _all(numbers: list[int | None]) -> tuple[int, ...] | None:
    return None if None in numbers else tuple(number for number in numbers if number is not None)


def _split(items: Items, *separators: str) -> Iterator[Items]:
    piece: Items = []
    for item in items:
        if item in separators:
            yield piece
            piece = []
        else:
            piece.append(item)
    yield piece


def _until(items: Items, words: set[str]) -> Items:
    for index, item in enumerate(items):
        if isinstance(item, str) and item in words:
            return items[:index]
    return items


def _has(items: Items, words: set[str]) -> bool:
    return any(isinstance(item, str) and item in words for item in items)


def _name(token: Any) -> str:
    return str(token).strip('"`').casefold()
