"""Run-time settings in the database: the values, in constance's table, and who changed what."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from scaling_kit import members
from scaling_kit.cluster import live_copy, live_entries
from scaling_kit.cluster.models import LiveChange

_actor: ContextVar[str] = ContextVar("scaling_kit.live.actor", default="")


def change(name: str, value: Any, *, by: str = "") -> None:
    """See `Live.change`. Concurrent changes of one setting wait for each other: the last one wins."""
    from constance import config
    from constance.codecs import dumps
    from constance.signals import config_updated

    entry = live_entries.insist(name, value)
    alias, new, default = database(), dumps(value), dumps(entry.default)
    with transaction.atomic(using=alias):
        if _stored(alias, name, default) == new:
            return
        rows = _model().objects.using(alias).select_for_update()
        row, _ = rows.get_or_create(key=_prefix() + name, defaults={"value": default})
        old, row.value = default if row.value is None else row.value, new
        row.save(using=alias, update_fields=["value"])
        LiveChange.objects.using(alias).create(
            name=name, old=old, new=new, by=(by or _who())[: LiveChange.TEXT_MAX], origin=_origin()
        )
        transaction.on_commit(partial(live_copy.changed, alias), using=alias)
    config_updated.send(sender=config, key=name, old_value=readable(old), new_value=value)


@contextmanager
def acting(who: object) -> Iterator[None]:
    """Changes in this block are recorded as theirs."""
    token = _actor.set(str(who))
    try:
        yield
    finally:
        _actor.reset(token)


def fetch(connection: BaseDatabaseWrapper | None = None) -> dict[str, Any]:
    """Every setting as the database has it, by this connection. Raises what the database raises."""
    connection = connection or connections[database()]
    table, key, value = map(connection.ops.quote_name, (_model()._meta.db_table, "key", "value"))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {key}, {value} FROM {table}")  # noqa: S608  (names, quoted)
        stored = dict(cursor.fetchall())
    return {name: _decoded(entry, stored.get(_prefix() + name)) for name, entry in live_entries.entries().items()}


def fetch_history(name: str = "", *, limit: int = 50) -> list[dict[str, Any]]:
    """The last changes of one setting or of all, the newest first."""
    changes = LiveChange.objects.using(database()).order_by("-id")
    if name:
        changes = changes.filter(name=name)
    return [
        {
            "name": each.name,
            "old": readable(each.old),
            "new": readable(each.new),
            "by": each.by,
            "origin": each.origin,
            "at": each.at,
        }
        for each in changes[:limit]
    ]


def readable(stored: str) -> Any:
    """What the text stands for, or the text, if this release cannot read it."""
    from constance.codecs import loads

    try:
        return loads(stored)
    except Exception:  # a decoder raises what it likes; one row must not keep all other settings from being read
        return stored


def database() -> str:
    """The alias of the database that has them: never a replica, which may lag behind."""
    return router.db_for_write(_model())


def _stored(alias: str, name: str, default: str) -> str:
    found = _model().objects.using(alias).filter(key=_prefix() + name).values_list("value", flat=True).first()
    return default if found is None else str(found)


def _decoded(entry: live_entries.Entry, stored: str | None) -> Any:
    """The default instead of what an older or newer release has stored, of another type."""
    if stored is None:
        return entry.default
    value = readable(stored)
    return value if entry.fits(value) else entry.default


def _model() -> Any:
    from constance.models import Constance

    return Constance


def _prefix() -> str:
    return getattr(django_settings, "CONSTANCE_DATABASE_PREFIX", "")


def _who() -> str:
    """Who acts; for code in a web process or worker nobody, else the one who started this command."""
    if _actor.get() or members.current() is not None:
        return _actor.get()
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""


def _origin() -> str:
    member = members.current()
    program = member.role if member else " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    return f"{program} {members.member_id(os.getpid())}"[: LiveChange.TEXT_MAX]
