"""`manage.py cluster settings [NAME [VALUE]]`: the run-time settings, one and its history, or a change."""

from __future__ import annotations

import json as json_format
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError, CommandParser, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError

from scaling_kit.cluster import live_entries, live_store
from scaling_kit.cluster.live import live

HELP = "show the run-time settings; one and its history; or change it"


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="true or false, a number, text, an ISO date ...")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(*, name: str | None, value: str | None, json: bool, stdout: OutputWrapper, **_: Any) -> int:
    try:
        if name is not None and value is not None:
            _change(name, value)
        found = _all() if name is None else _one(name)
    except (ImproperlyConfigured, AttributeError) as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(f"The database does not answer, nothing was changed: {error}") from error
    stdout.write(json_format.dumps(found, cls=DjangoJSONEncoder) if json else "\n".join(_lines(found)))
    return 0


def _change(name: str, value: str) -> None:
    try:
        live.change(name, live_entries.parse(_entry(name), value))
    except ValidationError as error:
        raise CommandError(f"{name} cannot be {value!r}: {' '.join(error.messages)}") from error


def _all() -> dict[str, Any]:
    return {"settings": live_store.fetch()}


def _one(name: str) -> dict[str, Any]:
    _entry(name)
    return {"settings": {name: live_store.fetch()[name]}, "history": live_store.fetch_history(name)}


def _entry(name: str) -> live_entries.Entry:
    entry = live_entries.entries().get(name)
    if entry is None:
        raise live_entries.unknown(name)
    return entry


def _lines(found: dict[str, Any]) -> list[str]:
    width = max(map(len, found["settings"]), default=0)
    lines = [f"{name:<{width}}  {value!r}" for name, value in found["settings"].items()]
    for each in found.get("history", []):
        who = f"{each['by']}, {each['origin']}" if each["by"] else each["origin"]
        lines.append(f"  {each['at']:%Y-%m-%d %H:%M:%S}  {each['old']!r} → {each['new']!r}  ({who})")
    return lines
