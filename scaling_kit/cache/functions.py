"""The cache for functions, and for what changes behind Django's back."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar

from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from scaling_kit.cache import entries, observer, readings, scopes, tags
from scaling_kit.cache.entries import Computed
from scaling_kit.cache.policy import Policy
from scaling_kit.cache.readings import Address
from scaling_kit.cache.scopes import Scope
from scaling_kit.cache.tags import Dependency

P = ParamSpec("P")
R = TypeVar("R")


def invalidate(*what: Dependency, using: str = DEFAULT_DB_ALIAS) -> None:
    """Forget every response that depends on these models, on the models of these instances, or on these names.

    For changes that Django does not see: a trigger, another program, a remote service. A name is what a `depends_on`
    says. Inside a transaction it happens when that commits. Never raises: what Redis does not take now is sent later.
    """
    changed = {
        tag
        for each in what
        for tag in scopes.widened(tags.of(each) | (scopes.of_instance(each) if isinstance(each, Model) else set()))
    }
    observer.changed(changed, using=using)


async def ainvalidate(*what: Dependency, using: str = DEFAULT_DB_ALIAS) -> None:
    """`invalidate` from a coroutine."""
    await sync_to_async(invalidate)(*what, using=using)


def cached(
    *,
    timeout: float | timedelta | None = None,
    depends_on: Sequence[Dependency] = (),
    scope: Callable[..., Scope] | None = None,
    stale_while_revalidate: float = 0.0,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Cache what a function returns, for all processes, until a table it has read from changes.

    Arguments and result must be JSON (`TypeError` otherwise); tuples come back as lists, on a miss as on a hit.
    Of a coroutine function, it makes another one. `timeout` in seconds, by default SCALING_KIT_CACHE_TIMEOUT_SECONDS.
    `scope`: a function of the same arguments, `{model: value}`, see `scopes`. `stale_while_revalidate`: as of
    `cached_response`.
    """
    policy = Policy(
        timeout=timeout, depends_on=tuple(depends_on), scope=scope, stale_while_revalidate=stale_while_revalidate
    )

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        _ensure_function(function)
        kind = CachedCoroutineFunction if inspect.iscoroutinefunction(function) else CachedFunction
        return kind(function, policy)

    return decorate


class CachedFunction(Generic[P, R]):
    """What `cached` makes of a function."""

    def __init__(self, function: Callable[P, R], policy: Policy) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._policy = policy
        self._signature = inspect.signature(function)
        self._family = f"{function.__module__}.{function.__qualname__}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._serve(self._function, args, kwargs)

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have the next call with these arguments compute, in every process.

        For a change that concerns one entry and that Django does not see. A call that is computing at this moment may
        still store what it has found; `invalidate()` of a name in `depends_on` leaves no such gap.
        Raises `redis.RedisError` if Redis did not take it.
        """
        readings.forget(self._address(args, kwargs))

    def _serve(self, function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        def compute() -> Computed[Any]:
            payload = self._dump(function(*args, **kwargs))
            return Computed(value=json.loads(payload), payload=payload)

        scope = self._policy.scope(*args, **kwargs) if self._policy.scope else None
        served = self._policy.serve(self._address(args, kwargs), compute, json.loads, scope=scope)
        result: R = served.value
        return result

    def _address(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Address:
        """The same for `f(1)`, `f(a=1)`, and `f()` if 1 is the default. Raises `TypeError` as the function would."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            spelled = json.dumps([bound.args, bound.kwargs], sort_keys=True)
        except TypeError as error:
            message = (
                f"{self._family} is cached by its arguments, which must be JSON: {error}. "
                "Pass a primary key, not an object; text, not a date."
            )
            raise TypeError(message) from error
        return entries.address(self._family, spelled)

    def _dump(self, result: Any) -> bytes:
        try:
            return json.dumps(result).encode()
        except TypeError as error:
            message = (
                f"{self._family} is cached by @cached, and what it returns must be JSON: {error}. "
                "Return text instead, for example str(decimal) or date.isoformat(), or a list of values."
            )
            raise TypeError(message) from error


class CachedCoroutineFunction(CachedFunction[P, R]):
    """Serves in the thread of the request's database connections, so that what the coroutine reads is observed."""

    def __init__(self, function: Callable[P, R], policy: Policy) -> None:
        super().__init__(function, policy)
        markcoroutinefunction(self)
        self._blocking: Callable[..., R] = async_to_sync(function)  # type: ignore[arg-type]

    async def aforget(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """`forget` from a coroutine."""
        await sync_to_async(self.forget)(*args, **kwargs)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        return await sync_to_async(self._serve)(self._blocking, args, kwargs)


def _ensure_function(function: Any) -> None:
    if not inspect.isfunction(function):
        raise TypeError(
            f"cached is for functions, not for {function!r}. Put @staticmethod above @cached, not below it."
        )
    name = f"{function.__module__}.{function.__qualname__}"
    is_in_class = "." in function.__qualname__.rpartition("<locals>.")[2]
    if is_in_class and next(iter(inspect.signature(function).parameters), "") in ("self", "cls"):
        raise TypeError(f"{name} is a method, and cached is for functions: its object is no part of an address.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is a generator function: have it return a list to cache that.")
