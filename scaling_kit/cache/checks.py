from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, register

from scaling_kit.cache.conf import settings


@register("scaling_kit")
def check_extra(**_: Any) -> list[CheckMessage]:
    """E001: REST framework is missing."""
    if find_spec("rest_framework"):
        return []
    return [
        Error(
            "scaling_kit.cache caches responses of Django REST framework, which is not installed.",
            hint="Install scaling_kit[cache].",
            id="scaling_kit_cache.E001",
        )
    ]


@register("scaling_kit")
def check_durations(**_: Any) -> list[CheckMessage]:
    """E002: a duration or size that is not positive."""
    return [
        Error(
            f"SCALING_KIT_CACHE_{name} is {getattr(settings, name)!r}.",
            hint="It must be greater than zero. SCALING_KIT_CACHE_ENABLED = False turns the cache off.",
            id="scaling_kit_cache.E002",
        )
        for name in ("TIMEOUT_SECONDS", "LEASE_SECONDS", "MAX_ENTRY_BYTES")
        if getattr(settings, name) <= 0
    ]
