from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections
from django.utils.module_loading import import_string

from scaling_kit.cache import outbox
from scaling_kit.cache.conf import settings
from scaling_kit.extras import check_installed, check_page


@register("scaling_kit")
def check_extra(**_: Any) -> list[CheckMessage]:
    """E001: REST framework is missing."""
    return check_installed("cache", ["rest_framework"])


@register("scaling_kit")
def check_durations(**_: Any) -> list[CheckMessage]:
    """E002: a duration or size that is not positive."""
    return [
        Error(
            f"SCALING_KIT_CACHE_{name} is {getattr(settings, name)!r}.",
            hint="It must be greater than zero. SCALING_KIT_CACHE_ENABLED = False turns the cache off.",
            id="scaling_kit_cache.E002",
        )
        for name in ("TIMEOUT_SECONDS", "LEASE_SECONDS", "MAX_ENTRY_BYTES", "MARK_SECONDS", "OUTBOX_SECONDS")
        if getattr(settings, name) <= 0
    ]


@register("scaling_kit")
def check_first_level(**_: Any) -> list[CheckMessage]:
    """E006: a first level of a negative size."""
    if settings.NEARBY_BYTES >= 0:
        return []
    return [
        Error(
            f"SCALING_KIT_CACHE_NEARBY_BYTES is {settings.NEARBY_BYTES!r}.",
            hint="It must be a number of bytes, or 0 for no first level.",
            id="scaling_kit_cache.E006",
        )
    ]


@register("scaling_kit")
def check_tenant(**_: Any) -> list[CheckMessage]:
    """E007: SCALING_KIT_CACHE_TENANT does not name a function."""
    path = settings.TENANT
    if not path:
        return []
    try:
        complaint = "" if callable(import_string(path)) else "is not a function"
    except ImportError as error:
        complaint = f"cannot be imported: {error}"
    if not complaint:
        return []
    return [
        Error(
            f"SCALING_KIT_CACHE_TENANT = {path!r} {complaint}.",
            hint="It must be the path of a function of the request that returns the tenant's primary key.",
            id="scaling_kit_cache.E007",
        )
    ]


@register("scaling_kit")
def check_hall(**_: Any) -> list[CheckMessage]:
    """E008: the page without the app it takes its looks from."""
    return check_page("cache", "E008")


@register(Tags.database)
def check_outbox(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W001: strict mode, or triggers, and a database without the table for what Redis cannot be told."""
    if not (settings.STRICT or settings.OUTBOX):
        return []
    return [
        CheckWarning(
            f"Database {alias!r} has no table {outbox.TABLE}: without Redis, bumps are only kept in memory.",
            hint=f"manage.py migrate scaling_kit_cache --database {alias}, if a router does not forbid it.",
            id="scaling_kit_cache.W001",
        )
        for alias in databases or ()
        if outbox.TABLE not in connections[alias].introspection.table_names()
    ]
