"""Settings of the kit: typed class attributes, read from Django's settings at the moment of use.

``class Settings(conf.Settings, prefix="SCALING_KIT_CACHE_")`` with ``TIMEOUT: int = 300`` reads
``SCALING_KIT_CACHE_TIMEOUT`` each time ``settings.TIMEOUT`` is asked for, so ``override_settings`` works.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings as django_settings


class Settings:
    """Base of every room's settings. An attribute in capitals is a setting; its value here is the default."""

    prefix: ClassVar[str]

    def __init_subclass__(cls, *, prefix: str) -> None:
        cls.prefix = prefix

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if not name.isupper():
            return default
        return getattr(django_settings, f"{type(self).prefix}{name}", default)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Full setting name → default value."""
        return {f"{cls.prefix}{name}": value for name, value in vars(cls).items() if name.isupper()}


def known() -> dict[str, Any]:
    """Every setting of every loaded room: full name → default value."""
    return {name: default for cls in Settings.__subclasses__() for name, default in cls.defaults().items()}


class HallSettings(Settings, prefix="SCALING_KIT_"):
    # Where the kit keeps what all processes share. A room may have its own: SCALING_KIT_<ROOM>_REDIS_URL.
    REDIS_URL: str = "redis://127.0.0.1:6379/0"
    # Two applications on one Redis need different prefixes.
    KEY_PREFIX: str = "sk"
    # Which release this process runs, for example a commit id; shown by `cluster status`, part of cache keys.
    RELEASE: str = ""


settings = HallSettings()
