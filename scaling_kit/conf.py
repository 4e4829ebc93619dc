"""Settings of the kit: typed class attributes, looked up in Django's settings when they are used.

``class CacheSettings(conf.Settings, prefix="SCALING_KIT_CACHE_")`` with ``TIMEOUT_SECONDS: int = 300`` reads
``SCALING_KIT_CACHE_TIMEOUT_SECONDS``. What was found is remembered until ``override_settings`` changes it: serving a
cached response reads ten settings, and Django's own answer for one that is not set was 9 % of its CPU time.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings as django_settings
from django.core.signals import setting_changed

_found: dict[str, Any] = {}


class Settings:
    """Base of every room's settings. An attribute in capitals is a setting; its value here is the default."""

    prefix: ClassVar[str]

    def __init_subclass__(cls, *, prefix: str) -> None:
        cls.prefix = prefix

    def __getattribute__(self, name: str) -> Any:
        if not name.isupper():
            return super().__getattribute__(name)
        full_name = type(self).prefix + name
        if full_name not in _found:
            _found[full_name] = getattr(django_settings, full_name, super().__getattribute__(name))
        return _found[full_name]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Full setting name → default value."""
        return {f"{cls.prefix}{name}": value for name, value in vars(cls).items() if name.isupper()}


def known() -> dict[str, Any]:
    """Every setting of every loaded room: full name → default value."""
    return {name: default for cls in Settings.__subclasses__() for name, default in cls.defaults().items()}


def _forget(*, setting: str, **_: Any) -> None:
    _found.pop(setting, None)


setting_changed.connect(_forget, dispatch_uid="scaling_kit.conf")


class HallSettings(Settings, prefix="SCALING_KIT_"):
    # Where the kit keeps what all processes share. A room may have its own: SCALING_KIT_<ROOM>_REDIS_URL.
    REDIS_URL: str = "redis://127.0.0.1:6379/0"
    # Two applications on one Redis need different prefixes.
    KEY_PREFIX: str = "sk"
    # Which release this process runs, for example a commit id; shown by `cluster status`, part of cache keys.
    RELEASE: str = ""


settings = HallSettings()
