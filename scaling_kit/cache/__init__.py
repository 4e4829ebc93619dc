"""API responses kept in Redis, and gone the moment the data they were made of changes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling_kit.cache.functions import ainvalidate, cached, invalidate
    from scaling_kit.cache.responses import CachedViewSetMixin, cached_response

__all__ = ["CachedViewSetMixin", "ainvalidate", "cached", "cached_response", "invalidate"]

_MODULES = {
    "CachedViewSetMixin": "responses",
    "ainvalidate": "functions",
    "cached": "functions",
    "cached_response": "responses",
    "invalidate": "functions",
}


def __getattr__(name: str) -> Any:
    # REST framework cannot be imported while INSTALLED_APPS is being loaded, and may be missing (a check says so).
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
