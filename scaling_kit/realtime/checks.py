from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name for it)
from django.utils.module_loading import import_string

from scaling_kit.realtime.conf import settings
from scaling_kit.realtime.origins import parse_origin


@register()
def check_dependencies(**_: Any) -> list[CheckMessage]:
    """E001: the extra is not installed."""
    missing = [name for name in ("channels", "channels_redis", "uvicorn") if find_spec(name) is None]
    if not missing:
        return []
    return [
        Error(
            f"scaling_kit.realtime needs {', '.join(missing)}.",
            hint="Run: pip install 'scaling-kit[realtime]'",
            id="scaling_kit_realtime.E001",
        )
    ]


@register()
def check_can_join(**_: Any) -> list[CheckMessage]:
    """W002: nobody may join; E003: the hook cannot be used."""
    hint = "Set it to the dotted path of a function (user, room) -> bool, sync or async."
    if not settings.CAN_JOIN:
        message = "SCALING_KIT_REALTIME_CAN_JOIN is not set: nobody may join any room of a plain RoomConsumer."
        return [Warning(message, hint=hint, id="scaling_kit_realtime.W002")]
    try:
        hook = import_string(settings.CAN_JOIN)
    except (ImportError, ValueError, AttributeError) as error:
        message = f"SCALING_KIT_REALTIME_CAN_JOIN = {settings.CAN_JOIN!r} cannot be imported: {error}"
        return [Error(message, hint=hint, id="scaling_kit_realtime.E003")]
    if not callable(hook):
        message = f"SCALING_KIT_REALTIME_CAN_JOIN = {settings.CAN_JOIN!r} is not a function."
        return [Error(message, hint=hint, id="scaling_kit_realtime.E003")]
    return []


@register()
def check_origins(**_: Any) -> list[CheckMessage]:
    """E004: an origin that no page can have."""
    return [
        Error(
            f"SCALING_KIT_REALTIME_ORIGINS contains {origin!r}, which is not an origin.",
            hint="Write scheme://host or scheme://host:port, exactly; there are no wildcards.",
            id="scaling_kit_realtime.E004",
        )
        for origin in settings.ORIGINS
        if parse_origin(origin) is None
    ]
