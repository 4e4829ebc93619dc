"""How the entries of one view or function are kept: what was said to `cached_response`, the mixin, or `cached`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TypeVar

from scaling_kit.cache import entries, scopes, tags
from scaling_kit.cache.conf import settings
from scaling_kit.cache.entries import Computed, Served
from scaling_kit.cache.readings import Address
from scaling_kit.cache.scopes import Scope
from scaling_kit.cache.tags import Dependency

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`timeout` in seconds; None means SCALING_KIT_CACHE_TIMEOUT_SECONDS. Raises `ValueError` if it is not positive."""

    timeout: float | timedelta | None = None
    depends_on: tuple[Dependency, ...] = ()
    scope: Callable[..., Scope] | None = None
    """A function of the request, or of the arguments, that says to which scopes the answer keeps."""
    stale_while_revalidate: float = 0.0
    """Seconds for which the others get what was, while one computes anew (as RFC 5861 says of HTTP caches)."""

    def __post_init__(self) -> None:
        if self.stale_while_revalidate < 0:
            raise ValueError(f"stale_while_revalidate={self.stale_while_revalidate!r}: it must not be negative")
        if self.timeout is not None and self.timeout_seconds <= 0:
            raise ValueError(
                f"timeout={self.timeout!r}: it must be positive, since an entry always has an end; "
                "None means SCALING_KIT_CACHE_TIMEOUT_SECONDS"
            )

    @property
    def timeout_seconds(self) -> float:
        if self.timeout is None:
            return float(settings.TIMEOUT_SECONDS)
        return self.timeout.total_seconds() if isinstance(self.timeout, timedelta) else float(self.timeout)

    @cached_property
    def tags(self) -> frozenset[str]:
        return frozenset(tags.of(*self.depends_on))

    def serve(
        self,
        address: Address,
        compute: Callable[[], Computed[T]],
        load: Callable[[bytes], T],
        *,
        scope: Scope | None = None,
    ) -> Served[T]:
        return entries.serve(
            replace(address, expects=scopes.expected(scope)) if scope else address,
            scopes.within(scope)(compute) if scope else compute,
            load,
            timeout_seconds=self.timeout_seconds,
            stale_seconds=self.stale_while_revalidate,
            depends_on=self.tags,
        )
