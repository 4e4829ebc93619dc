"""The way of every cached thing: believe an entry, or compute it once and store what may be stored."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.utils import timezone, translation

from scaling_kit import members
from scaling_kit.cache import observer, readings, tags, turns, unsent
from scaling_kit.cache.conf import settings
from scaling_kit.cache.readings import Address, Reading
from scaling_kit.conf import settings as hall
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what is stored. A release with another one does not read the entries of this one."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Computed(Generic[T]):
    """A value, and the bytes to make it from again; or the reason why it must not be stored."""

    value: T
    payload: bytes = b""
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Served(Generic[T]):
    """`status` is `hit`, `miss`, or `bypass;` and a reason."""

    value: T
    status: str


def address(family: str, *parts: Any) -> Address:
    """The address of what `family` computes from `parts`, in the language and time zone of this moment."""
    place = [FORMAT, hall.RELEASE, family, translation.get_language(), timezone.get_current_timezone_name(), *parts]
    return Address(family=family, digest=hashlib.sha256(json.dumps(place, default=str).encode()).hexdigest())


def serve(
    address: Address,
    compute: Callable[[], Computed[T]],
    load: Callable[[bytes], T],
    *,
    timeout_seconds: float,
    depends_on: frozenset[str] = frozenset(),
) -> Served[T]:
    """The entry at this address if it is still right, else what `compute` says. Raises what `compute` raises.

    Redis errors end in a computation, never in an exception.
    """
    if reason := _reason_to_bypass():
        return bypass(compute, reason)
    try:
        reading = readings.read(address)
    except RedisError as error:
        logger.debug("read failed family=%s error=%r", address.family, error)
        return bypass(compute, "redis")
    if reading.payload is not None:
        return _hit(reading, reading.payload, load)
    with turns.take(address, reading) as reading:
        if reading.payload is not None:
            return _hit(reading, reading.payload, load)
        return _miss(address, reading, compute, timeout_seconds=timeout_seconds, depends_on=depends_on)


def bypass(compute: Callable[[], Computed[T]], reason: str) -> Served[T]:
    return _bypassed(compute(), reason)


def _reason_to_bypass() -> str:
    if not settings.ENABLED:
        return "disabled"
    # Others may still be served what this process knows to be wrong; whoever wrote it must not be.
    if unsent.waiting():
        return "redis"
    return observer.reason_for_doubt()


def _hit(reading: Reading, payload: bytes, load: Callable[[bytes], T]) -> Served[T]:
    members.count("cache.hit")
    observer.depend_on(reading.tags)
    return Served(value=load(payload), status="hit")


def _miss(
    address: Address,
    reading: Reading,
    compute: Callable[[], Computed[T]],
    *,
    timeout_seconds: float,
    depends_on: frozenset[str],
) -> Served[T]:
    with observer.recording() as read:
        computed = compute()
        read |= depends_on | {tags.of_view(address.family)}
    # Doubt once more: the computation may have written, or opened a transaction.
    refusal = computed.refusal or _reason_to_bypass() or _reason_of_size(computed.payload)
    if refusal:
        return _bypassed(computed, refusal)
    try:
        stored = readings.store(address, reading, computed.payload, read, timeout_seconds=timeout_seconds)
    except RedisError as error:
        logger.debug("store failed family=%s error=%r", address.family, error)
        return _bypassed(computed, "redis")
    if not stored:
        members.count("cache.refused")  # something it depends on has changed meanwhile
    members.count("cache.miss")
    return Served(value=computed.value, status="miss")


def _reason_of_size(payload: bytes) -> str:
    return "size" if len(payload) > settings.MAX_ENTRY_BYTES else ""


def _bypassed(computed: Computed[T], reason: str) -> Served[T]:
    members.count("cache.bypass")
    return Served(value=computed.value, status=f"bypass;{reason}")
