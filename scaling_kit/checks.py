"""System checks: settings of the kit that are wrong, and (`manage.py check --deploy --tag stateless`) whatever in
this project would break with two processes.

Ids are stable: scaling_kit.E0xx and W0xx are about the kit's settings, E1xx and W1xx about the project being stateless.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from scaling_kit import conf, members  # noqa: F401  (importing members makes its settings known)
from scaling_kit.redis import Purpose, RedisError, client

STATELESS = "stateless"
PER_PROCESS_CACHES = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)
PER_MACHINE_CACHES = (*PER_PROCESS_CACHES, "django.core.cache.backends.filebased.FileBasedCache")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@register("scaling_kit")
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001 misspelt name, E002 wrong type, E003 a Redis URL that redis-py does not understand."""
    known = conf.known()
    found: list[CheckMessage] = []
    for name in sorted(name for name in dir(django_settings) if name.startswith("SCALING_KIT_")):
        value = getattr(django_settings, name)
        if name not in known:
            found.append(_unknown_name(name, known))
        elif not _has_type_of(value, known[name]):
            found.append(_wrong_type(name, value, known[name]))
        elif name.endswith("REDIS_URL") and value and not value.startswith(REDIS_SCHEMES):
            found.append(_wrong_scheme(name))
    return found


def _unknown_name(name: str, known: Iterable[str]) -> CheckMessage:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else "Is the app it belongs to in INSTALLED_APPS?"
    return Error(f"{name} is not a setting of scaling_kit.", hint=hint, id="scaling_kit.E001")


def _has_type_of(value: Any, default: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))


def _wrong_type(name: str, value: Any, default: Any) -> CheckMessage:
    return Error(
        f"{name} is {value!r}, of type {type(value).__name__}.",
        hint=f"It must be of type {type(default).__name__}, as its default {default!r} is.",
        id="scaling_kit.E002",
    )


def _wrong_scheme(name: str) -> CheckMessage:
    return Error(
        f"{name} is not a Redis URL.",
        hint=f"It must begin with one of {', '.join(REDIS_SCHEMES)}",
        id="scaling_kit.E003",
    )


@register(STATELESS, deploy=True)
def check_caches(**_: Any) -> list[CheckMessage]:
    """E101: a cache that each process has for itself."""
    return [
        Error(
            f"CACHES[{alias!r}] is {cache['BACKEND'].rpartition('.')[2]}: no other process sees what it holds.",
            hint="Use CACHES = scaling_kit.recipes.caches(REDIS_URL).",
            id="scaling_kit.E101",
        )
        for alias, cache in django_settings.CACHES.items()
        if cache["BACKEND"] in PER_MACHINE_CACHES
    ]


@register(STATELESS, deploy=True)
def check_sessions(**_: Any) -> list[CheckMessage]:
    """E102: sessions that only one process or one machine can read."""
    if not apps.is_installed("django.contrib.sessions"):
        return []
    engine = django_settings.SESSION_ENGINE
    cache = django_settings.CACHES.get(django_settings.SESSION_CACHE_ALIAS, {}).get("BACKEND")
    in_files = engine.endswith(".file")
    in_own_cache = engine.endswith(".cache") and cache in PER_MACHINE_CACHES
    if not (in_files or in_own_cache):
        return []
    return [
        Error(
            f"SESSION_ENGINE {engine!r} keeps sessions where other processes or machines cannot read them.",
            hint="Use 'django.contrib.sessions.backends.cached_db' over a cache in Redis.",
            id="scaling_kit.E102",
        )
    ]


@register(STATELESS, deploy=True)
def check_media(**_: Any) -> list[CheckMessage]:
    """E103: user files on the disk of one machine."""
    backend = django_settings.STORAGES.get("default", {}).get("BACKEND", "")
    if not backend.endswith(("FileSystemStorage", "InMemoryStorage")):
        return []
    return [
        Error(
            f"STORAGES['default'] is {backend.rpartition('.')[2]}: files saved by one machine are missing on the next.",
            hint="Use STORAGES = scaling_kit.recipes.storages(bucket, ...).",
            id="scaling_kit.E103",
        )
    ]


@register(STATELESS, deploy=True)
def check_channel_layers(**_: Any) -> list[CheckMessage]:
    """E104: a channel layer that ends at the process; W104: the stock Redis layer, which closes idle sockets."""
    if not apps.is_installed("channels") and not apps.is_installed("scaling_kit.realtime"):
        return []
    found: list[CheckMessage] = []
    hint = "Use CHANNEL_LAYERS = scaling_kit.recipes.channel_layers(REDIS_URL)."
    for alias, layer in getattr(django_settings, "CHANNEL_LAYERS", {}).items():
        if layer["BACKEND"].endswith("InMemoryChannelLayer"):
            message = f"CHANNEL_LAYERS[{alias!r}] is in memory: messages never reach sockets of another process."
            found.append(Error(message, hint=hint, id="scaling_kit.E104"))
        elif layer["BACKEND"] == "channels_redis.core.RedisChannelLayer":
            message = (
                f"CHANNEL_LAYERS[{alias!r}] loses idle sockets with redis-py 8, and all of them when Redis restarts."
            )
            found.append(CheckWarning(message, hint=hint, id="scaling_kit.W104"))
    return found


@register(STATELESS, deploy=True)
def check_database(**_: Any) -> list[CheckMessage]:
    """W105: SQLite, which is one file on one machine."""
    return [
        CheckWarning(
            f"DATABASES[{alias!r}] is SQLite: a second machine cannot share it.",
            hint="Fine for several processes on one machine (in WAL mode); use PostgreSQL for more.",
            id="scaling_kit.W105",
        )
        for alias, database in django_settings.DATABASES.items()
        if database.get("ENGINE", "").endswith("sqlite3")
    ]


@register(STATELESS, deploy=True)
def check_redis(**_: Any) -> list[CheckMessage]:
    """E106: a Redis that evicts keys, under queues and leases; W106: one that could not be asked."""
    try:
        policy = client(Purpose.REQUEST).config_get("maxmemory-policy").get("maxmemory-policy", "")
    except (RedisError, ValueError) as error:
        hint = "Is SCALING_KIT_REDIS_URL right, and is Redis running? Some providers forbid CONFIG GET."
        return [CheckWarning(f"Redis's eviction policy is unknown: {error}", hint=hint, id="scaling_kit.W106")]
    if policy == "noeviction":
        return []
    return [
        Error(
            f"Redis's maxmemory-policy is {policy}: under memory pressure it would evict queued jobs and leases.",
            hint="Set maxmemory-policy to noeviction, and give the cache a Redis of its own.",
            id="scaling_kit.E106",
        )
    ]


@register(STATELESS, deploy=True)
def check_secret_key(**_: Any) -> list[CheckMessage]:
    """E107: a secret that everyone has, or that each process makes for itself."""
    if not django_settings.SECRET_KEY.startswith("django-insecure-"):
        return []
    return [
        Error(
            "SECRET_KEY is the one startproject generated; it is in the repository, and it signs sessions and tokens.",
            hint="Read it from the environment, the same value for every process.",
            id="scaling_kit.E107",
        )
    ]


@register(STATELESS, deploy=True)
def check_serializers(**_: Any) -> list[CheckMessage]:
    """W108: pickle over Redis, by which whoever can write to Redis runs code in this process."""
    if not apps.is_installed("django_rq") or apps.is_installed("scaling_kit.jobs"):
        return []
    return [
        CheckWarning(
            f"RQ_QUEUES[{name!r}] uses pickle: whoever can write to Redis can run code in web and worker processes.",
            hint="Set 'SERIALIZER': 'json', or use the kit's RQBackend, whose payloads are JSON.",
            id="scaling_kit.W108",
        )
        for name, queue in getattr(django_settings, "RQ_QUEUES", {}).items()
        if "json" not in str(queue.get("SERIALIZER", "")).lower()
    ]


@register(STATELESS, deploy=True)
def check_throttles(**_: Any) -> list[CheckMessage]:
    """E109: a request limit that counts in each process for itself."""
    rest = getattr(django_settings, "REST_FRAMEWORK", {})
    default = django_settings.CACHES.get("default", {}).get("BACKEND")
    if not rest.get("DEFAULT_THROTTLE_CLASSES") or default not in PER_PROCESS_CACHES:
        return []
    return [
        Error(
            "DEFAULT_THROTTLE_CLASSES counts in a cache of each process: N processes allow N times the rate.",
            hint="Use CACHES = scaling_kit.recipes.caches(REDIS_URL).",
            id="scaling_kit.E109",
        )
    ]
