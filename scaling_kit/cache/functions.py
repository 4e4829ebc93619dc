"""The cache for functions, and for what changes behind Django's back."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS

from scaling_kit.cache import entries, observer, tags
from scaling_kit.cache.conf import settings
from scaling_kit.cache.entries import Computed
from scaling_kit.cache.tags import Dependency

P = ParamSpec("P")
R = TypeVar("R")


def invalidate(*what: Dependency, using: str = DEFAULT_DB_ALIAS) -> None:
    """Forget every response that depends on these models, on the models of these instances, or on these names.

    For changes that Django does not see: a trigger, another program, a remote service. A name is what a `depends_on`
    says. Inside a transaction it happens when that commits. Never raises: what Redis does not take now is sent later.
    """
    observer.changed(tags.of(*what), using=using)


def cached(
    *, timeout: float | timedelta | None = None, depends_on: Sequence[Dependency] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache what a function returns, for all processes, until a table it has read from changes.

    Arguments and result must be JSON (`TypeError` otherwise); tuples come back as lists, on a miss as on a hit.
    `timeout` in seconds, by default SCALING_KIT_CACHE_TIMEOUT_SECONDS.
    """
    validate_timeout(timeout)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        family = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            def compute() -> Computed[Any]:
                payload = json.dumps(function(*args, **kwargs)).encode()
                return Computed(value=json.loads(payload), payload=payload)

            served = entries.serve(
                entries.address(family, _spelled(family, args, kwargs)),
                compute,
                json.loads,
                timeout_seconds=seconds(timeout),
                depends_on=frozenset(tags.of(*depends_on)),
            )
            result: R = served.value
            return result

        return wrapper

    return decorate


def validate_timeout(timeout: float | timedelta | None) -> None:
    """Raise `ValueError` for a timeout that is not positive: an entry always has an end."""
    if timeout is not None and seconds(timeout) <= 0:
        raise ValueError(f"timeout={timeout!r}: it must be positive; None means SCALING_KIT_CACHE_TIMEOUT_SECONDS")


def seconds(timeout: float | timedelta | None) -> float:
    if timeout is None:
        return float(settings.TIMEOUT_SECONDS)
    return timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)


def _spelled(family: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        return json.dumps([args, kwargs], sort_keys=True)
    except TypeError as error:
        message = (
            f"{family} is cached by its arguments, which must be JSON: {error}. Pass a primary key, not an object."
        )
        raise TypeError(message) from error
