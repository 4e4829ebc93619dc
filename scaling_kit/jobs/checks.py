"""Mistakes in TASKS and RQ_QUEUES, found before a worker is started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.urls import URLPattern, URLResolver, get_resolver

from scaling_kit import members
from scaling_kit.conf import settings as hall
from scaling_kit.extras import check_installed, check_page, missing
from scaling_kit.jobs.conf import JobsSettings, settings
from scaling_kit.redis import RedisError

STATELESS = "stateless"
BACKENDS = ("scaling_kit.jobs.RQBackend", "scaling_kit.jobs.backend.RQBackend")


@register()
def check_extra(**_: Any) -> list[CheckMessage]:
    """E001: a package of the extra is missing."""
    tasks_api = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    return check_installed("jobs", ["rq", "django_rq", "rest_framework", tasks_api])


@register()
def check_hall(**_: Any) -> list[CheckMessage]:
    """E012: the page of the jobs without the app it takes its looks from."""
    return check_page("jobs", "E012")


@register()
def check_queues(**_: Any) -> list[CheckMessage]:
    """E003, E004: where the queues are."""
    if missing(["rq"]):
        return []
    return [message for name in getattr(django_settings, "RQ_QUEUES", {}) for message in _check_queue(name)]


@register()
def check_limits(**_: Any) -> list[CheckMessage]:
    """E005: a number that cannot be."""
    return [
        Error(
            f"SCALING_KIT_JOBS_{name} must be above 0, not {getattr(settings, name)!r}.",
            hint="Remove the setting to have the default.",
            id="scaling_kit_jobs.E005",
        )
        for name in _numbers()
        if not isinstance(getattr(settings, name), int | float) or getattr(settings, name) <= 0
    ]


@register()
def check_tasks(**_: Any) -> list[CheckMessage]:
    """E002: a queue of TASKS that RQ_QUEUES does not have."""
    return [
        Error(
            f"TASKS[{alias!r}] has the queue {name!r}, which is not in RQ_QUEUES.",
            hint="Use RQ_QUEUES = scaling_kit.recipes.rq_queues(REDIS_URL, queues=[...]) with the same names.",
            id="scaling_kit_jobs.E002",
        )
        for alias, backend in getattr(django_settings, "TASKS", {}).items()
        if backend.get("BACKEND") in BACKENDS
        for name in backend.get("QUEUES", ["default"])
        if name not in getattr(django_settings, "RQ_QUEUES", {})
    ]


@register(STATELESS, deploy=True)
def check_serializers(**_: Any) -> list[CheckMessage]:
    """W006: pickle, by which whoever can write to Redis can run code in the workers."""
    return [
        CheckWarning(
            f"RQ_QUEUES[{name!r}] takes plain RQ jobs as pickle: whoever can write to Redis runs code in the workers.",
            hint="Set 'SERIALIZER': 'json'. Tasks are JSON in any case.",
            id="scaling_kit_jobs.W006",
        )
        for name, queue in getattr(django_settings, "RQ_QUEUES", {}).items()
        if "json" not in str(queue.get("SERIALIZER", "")).lower()
    ]


@register(STATELESS, deploy=True)
def check_workers(**_: Any) -> list[CheckMessage]:
    """W007: a queue whose jobs wait for ever, because no living worker listens to it."""
    try:
        workers = [member for member in members.fetch_members() if member["role"] == "worker"]
    except (RedisError, ValueError):
        return []  # the hall's check of Redis says so
    served = {name for worker in workers for name in worker.get("queues", "").split(",")}
    return [
        CheckWarning(
            f"No worker that runs now listens to the queue {name!r}.",
            hint=f"manage.py runworkers --queues ...,{name}",
            id="scaling_kit_jobs.W007",
        )
        for name in getattr(django_settings, "RQ_QUEUES", {})
        if name not in served
    ]


@register(STATELESS, deploy=True)
def check_django_rq_pages(**_: Any) -> list[CheckMessage]:
    """W011: django-rq's own URLs, where any staff user may empty a queue."""
    if not getattr(django_settings, "ROOT_URLCONF", ""):
        return []
    return [
        CheckWarning(
            f"The URLconf includes django_rq.urls at {prefix!r}: every staff user may empty queues there, whatever "
            "their permissions.",
            hint="Remove it: the same pages are in the admin, where the kit asks for permissions on jobs.",
            id="scaling_kit_jobs.W011",
        )
        for prefix in _prefixes_of("django_rq.urls", get_resolver().url_patterns)
    ]


@register(STATELESS, deploy=True)
def check_commits(**_: Any) -> list[CheckMessage]:
    """W008: a queue of django-rq's own class, which enqueues what a transaction that is rolled back has asked for."""
    if missing(["rq", "django_rq"]) or _commit_mode() != "on_db_commit":
        return []
    return [
        CheckWarning(
            f"RQ_QUEUES[{name!r}]: enqueue_in, enqueue_at, enqueue_many and enqueue_job do not wait for the commit.",
            hint="Set 'QUEUE_CLASS': 'scaling_kit.jobs.plain.Queue', as scaling_kit.recipes.rq_queues does.",
            id="scaling_kit_jobs.W008",
        )
        for name, entry in getattr(django_settings, "RQ_QUEUES", {}).items()
        if not _waits_for_commits(entry)
    ]


@register()
def check_options(**_: Any) -> list[CheckMessage]:
    """W009: an option that means nothing here; E010: a database that is not there."""
    return [
        message
        for alias, backend in getattr(django_settings, "TASKS", {}).items()
        if backend.get("BACKEND") in BACKENDS
        for message in _check_options(f"TASKS[{alias!r}]['OPTIONS']", backend.get("OPTIONS", {}))
    ]


def _check_options(where: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name in sorted(set(options) - {"DATABASE"}):
        yield CheckWarning(
            f"{where} has {name!r}, which means nothing to RQBackend.",
            hint="There is DATABASE, the alias of the database whose commit enqueue waits for.",
            id="scaling_kit_jobs.W009",
        )
    database = options.get("DATABASE", DEFAULT_DB_ALIAS)
    if database not in django_settings.DATABASES:
        yield Error(
            f"{where} names the database {database!r}, which is not in DATABASES.",
            hint=f"There are: {', '.join(django_settings.DATABASES)}.",
            id="scaling_kit_jobs.E010",
        )


def _commit_mode() -> str:
    from django_rq.queues import get_commit_mode

    try:
        return str(get_commit_mode())
    except ImproperlyConfigured:
        return ""  # django-rq says so when a queue is asked for


def _waits_for_commits(entry: Mapping[str, Any]) -> bool:
    from django_rq.queues import get_queue_class

    from scaling_kit.jobs.plain import Queue

    try:
        return issubclass(get_queue_class(dict(entry)), Queue)
    except (ImportError, AttributeError, ValueError):
        return False  # no class of that name


def _prefixes_of(urlconf: str, patterns: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Where this URLconf is included."""
    for resolver in (pattern for pattern in patterns if isinstance(pattern, URLResolver)):
        path = f"{prefix}{resolver.pattern}"
        if urlconf in (resolver.urlconf_name, getattr(resolver.urlconf_name, "__name__", None)):
            yield path
        else:
            yield from _prefixes_of(urlconf, resolver.url_patterns, path)


def _numbers() -> list[str]:
    """The settings that are numbers."""
    return [name for name, default in vars(JobsSettings).items() if name.isupper() and isinstance(default, int | float)]


def _check_queue(name: str) -> Iterator[CheckMessage]:
    from scaling_kit.jobs import queues

    try:
        url = queues.url(name)
    except ImproperlyConfigured as error:
        yield Error(
            f"{error}.", hint="Sentinels and Redis caches are not supported here yet.", id="scaling_kit_jobs.E003"
        )
        return
    if _place(url) != _place(hall.REDIS_URL):
        yield Error(
            f"RQ_QUEUES[{name!r}] is in another Redis, or another database of it, than SCALING_KIT_REDIS_URL.",
            hint="The lease and the queues must be in one place: a job is moved by the holder of the lease only.",
            id="scaling_kit_jobs.E004",
        )


def _place(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    host = (parts.hostname or "").replace("localhost", "127.0.0.1")
    return host, parts.port or 6379, parts.path.strip("/") or "0"
