"""docs/cluster-status.md against what `cluster status --json` prints: the same fields, of the same types."""

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from scaling_kit import members
from scaling_kit.cluster import marks, overview
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim, schedule, stored
from scaling_kit.scheduler.models import StoredSchedule
from tests.cache import stock
from tests.cache.stock import LIST
from tests.library.models import Book
from tests.scheduler.queue import Task

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).parents[2] / "docs" / "cluster-status.md"
TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "object": dict}
# What is not there in this test.
UNSEEN = {"apps.scaling_kit_cache.snapshot.in_flight[]"}


def documented() -> dict[str, str]:
    """Field → type. Below a heading such as `apps.x.snapshot` the fields are of that."""
    found, above = {}, ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"## `(.*)`", line):
            above = f"{heading[1]}."
        if row := re.match(r"\| `(\S+)` \| (\S+) \|", line):
            found[above + row[1]] = row[2]
    return found


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a cluster in which there is one of each, as far as that is easy."""
    monkeypatch.setattr(schedule, "_declared", [])
    schedule.add("sweep", Task(), "@hourly")
    StoredSchedule.objects.create(name="gone")
    monkeypatch.setattr(stored, "_table", stored.Table())
    client(Purpose.SCRIPT).hset(claim.state_key("sweep"), mapping={"tick": 10**9, "run_at": 10**9, "job_id": "x"})
    stock.begin_counting()
    stock.count(LIST, hit=9, miss=1, bypass=1, reasons=["status"])
    stock.put(LIST, Book, size=150)
    members.Member("websocket", sockets=3).beat()
    marks.put("b")
    out = StringIO()
    call_command("cluster", "status", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def fields(printed: dict[str, Any], known: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Every field as the page spells it, and its value: of the whole, then of each app's snapshot."""
    apps = {label: report | {"snapshot": {}} for label, report in printed["apps"].items()}
    yield from _fields(printed | {"apps": apps}, "", known)
    for label, report in printed["apps"].items():
        assert report["error"] is None
        yield from _fields(report["snapshot"], f"apps.{label}.snapshot", known)


def _fields(value: Any, path: str, known: dict[str, str]) -> Iterator[tuple[str, Any]]:
    if path in known or not isinstance(value, dict | list):
        yield path, value
    if isinstance(value, list):
        for item in value:
            yield from _fields(item, f"{path}[]", known)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _fields(item, _spelt(path, name, known), known)


def _spelt(path: str, name: str, known: dict[str, str]) -> str:
    """`path.<...>` if the page says that its names are anyone's."""
    above = f"{path}." if path else ""
    for field in known:
        if found := re.match(rf"{re.escape(above)}<\w+>", field):
            return found[0]
    return above + name


def is_of_type(value: Any, wanted: str) -> bool:
    if value is None:
        return wanted.startswith("(")
    expected = TYPES[wanted.strip("()")]
    if isinstance(value, bool):
        return expected is bool
    return isinstance(value, int | float) if expected is float else isinstance(value, expected)


def test_every_field_printed__is_documented_and_of_that_type(printed: dict[str, Any]) -> None:
    known = documented()
    found = list(fields(printed, known))
    assert [field for field, _ in found if field not in known] == []
    assert [(field, value) for field, value in found if not is_of_type(value, known[field])] == []


def test_every_documented_field__is_printed(printed: dict[str, Any]) -> None:
    known = documented()
    assert known.keys() - {field for field, _ in fields(printed, known)} == UNSEEN


def test_schema__is_the_documented_one() -> None:
    assert f"| `schema` | integer | {overview.SCHEMA} |" in PAGE.read_text()
