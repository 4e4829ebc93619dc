"""System checks of the cluster room: ids scaling_kit_cluster.E0xx and W0xx."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from scaling_kit.cluster import live_entries, project_checks, wanted
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.health import PROBES
from scaling_kit.cluster.live import Live
from scaling_kit.extras import check_installed, missing

LIVE_BACKEND = "scaling_kit.cluster.live_backend.LiveBackend"
MIDDLEWARE = "scaling_kit.cluster.middleware.HealthMiddleware"
LEAST: dict[str, float] = {
    "WORKERS": 0,
    "WEBSOCKET_WORKERS": 0,
    "MAX_REQUESTS": 0,
    "MEMORY_MAX_MB": 0,
    "RESTART_FIRST_SECONDS": 0.01,
    "RESTART_LASTING_SECONDS": 0,
    "RESTART_FAILED_STARTS": 1,
    "MEMORY_LOOK_SECONDS": 0.1,
}


@register("scaling_kit")
def check_dependencies(**_: Any) -> list[CheckMessage]:
    """E001: a package of the extra is missing."""
    return check_installed("cluster", ["gunicorn", "prometheus_client", "rest_framework"])


@register("scaling_kit")
def check_ready_requires(**_: Any) -> list[CheckMessage]:
    """E004: SCALING_KIT_CLUSTER_READY_REQUIRES names a check that does not exist, so that no node is ever ready."""
    names = [*(probe.name for probe in PROBES), *settings.CHECKS]
    return [
        Error(
            f"SCALING_KIT_CLUSTER_READY_REQUIRES names {name!r}, which is not a health check.",
            hint=f"The checks are {', '.join(names)}.",
            id="scaling_kit_cluster.E004",
        )
        for name in settings.READY_REQUIRES
        if name not in names
    ]


@register("scaling_kit")
def check_processes(**_: Any) -> list[CheckMessage]:
    """E005: SCALING_KIT_CLUSTER_PROCESSES has a wrong count, an unknown name or option, no command."""
    return [
        Error(f"SCALING_KIT_CLUSTER_PROCESSES: {problem}", hint=hint, id="scaling_kit_cluster.E005")
        for problem, hint in wanted.problems()
    ]


@register("scaling_kit")
def check_numbers(**_: Any) -> list[CheckMessage]:
    """E006: a number that is too small to run with."""
    return [
        Error(
            f"SCALING_KIT_CLUSTER_{name} is {getattr(settings, name)!r}.",
            hint=f"It must be {minimum} or more.",
            id="scaling_kit_cluster.E006",
        )
        for name, minimum in (LEAST | {"RESTART_LAST_SECONDS": settings.RESTART_FIRST_SECONDS}).items()
        if _is_less(getattr(settings, name), minimum)
    ]


@register("scaling_kit")
def check_project_checks(**_: Any) -> list[CheckMessage]:
    """E007: an entry of SCALING_KIT_CLUSTER_CHECKS cannot be made into a check, or has the name of one of ours."""
    ours = [probe.name for probe in PROBES]
    wrong = {name: f"{name!r} is a check of the kit's own" for name in settings.CHECKS if name in ours}
    for name in settings.CHECKS.keys() - wrong.keys():
        try:
            project_checks.Check(name).load()
        except Exception as error:  # whatever the import of the project's code raises
            wrong[name] = f"{type(error).__name__}: {error}"
    return [
        Error(
            f"SCALING_KIT_CLUSTER_CHECKS[{name!r}] cannot be used: {why}.",
            hint='Name a function or a check of django-health-check: {"mail": "health_check.checks.Mail"}.',
            id="scaling_kit_cluster.E007",
        )
        for name, why in sorted(wrong.items())
    ]


@register("scaling_kit")
def check_live(**_: Any) -> list[CheckMessage]:
    """E010: run-time settings are declared, and constance is not installed; E011: not kept where all processes see a
    change; E012: an entry that cannot be read.
    """
    if not live_entries.is_on():
        return _live_is_off() if hasattr(django_settings, "CONSTANCE_CONFIG") else []
    found: list[CheckMessage] = []
    backend = getattr(django_settings, "CONSTANCE_BACKEND", "constance.backends.redisd.RedisBackend")
    if backend != LIVE_BACKEND:
        message = f"CONSTANCE_BACKEND is {backend!r}: other processes see a change late, and nobody who made it."
        found.append(Error(message, hint=f"CONSTANCE_BACKEND = {LIVE_BACKEND!r}", id="scaling_kit_cluster.E011"))
    return found + [
        Error(f"CONSTANCE_CONFIG{problem}", hint=hint, id="scaling_kit_cluster.E012")
        for problem, hint in live_entries.problems(dir(Live))
    ]


@register("scaling_kit")
def check_middleware(**_: Any) -> list[CheckMessage]:
    """W002: the health middleware is not there; W003: something runs before it."""
    middleware = list(django_settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        problem, number = "is not in MIDDLEWARE: nobody answers /health/live and /health/ready", 2
    elif middleware[0] != MIDDLEWARE:
        problem, number = "is not the first in MIDDLEWARE: redirects and host checks answer health probes before it", 3
    else:
        return []
    return [
        CheckWarning(
            f"{MIDDLEWARE} {problem}.",
            hint=f"MIDDLEWARE = [{MIDDLEWARE!r}, ...]",
            id=f"scaling_kit_cluster.W00{number}",
        )
    ]


def _live_is_off() -> list[CheckMessage]:
    hint = "pip install 'scaling-kit[live]'" if missing(["constance"]) else 'Add "constance" to INSTALLED_APPS.'
    return [
        Error(
            "CONSTANCE_CONFIG declares run-time settings, and constance is not installed.",
            hint=hint,
            id="scaling_kit_cluster.E010",
        )
    ]


def _is_less(value: Any, minimum: Any) -> bool:
    """False for what are no numbers, which scaling_kit.E002 is about."""
    return isinstance(value, int | float) and isinstance(minimum, int | float) and value < minimum
