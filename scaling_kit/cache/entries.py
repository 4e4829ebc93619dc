"""The way of every cached thing: believe an entry, or compute it once and store what may be stored."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.utils import timezone, translation

from scaling_kit import members
from scaling_kit.cache import observer, readings, signals, staleness, tags, turns, unsent
from scaling_kit.cache.conf import settings
from scaling_kit.cache.readings import Address, Reading
from scaling_kit.conf import settings as hall
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

FORMAT = 2
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
    """`status` is `hit`, `stale`, `miss`, or `bypass;` and a reason."""

    value: T
    status: str


def address(family: str, *parts: Any, expects: frozenset[str] = frozenset()) -> Address:
    """The address of what `family` computes from `parts`, in the language and time zone of this moment.

    Parts are told apart by their `repr`.
    """
    place = [FORMAT, hall.RELEASE, family, translation.get_language(), timezone.get_current_timezone_name(), *parts]
    digest = hashlib.sha256(repr(place).encode()).hexdigest()
    return Address(family=family, digest=digest, expects=expects)


def serve(
    address: Address,
    compute: Callable[[], Computed[T]],
    load: Callable[[bytes], T],
    *,
    timeout_seconds: float,
    stale_seconds: float = 0.0,
    depends_on: frozenset[str] = frozenset(),
) -> Served[T]:
    """The entry at this address if it is still right, else what `compute` says. Raises what `compute` raises.

    With `stale_seconds`, while one computes it anew, the others get the entry as it was, if it has not been wrong for
    longer than that. Redis errors end in a computation, never in an exception.
    """
    if reason := _reason_to_bypass():
        return bypass(address.family, compute, reason)
    try:
        reading = readings.read(address, near=not observer.is_recording())  # see `nearby`
    except RedisError as error:
        logger.debug("read failed family=%s error=%r", address.family, error)
        return bypass(address.family, compute, "redis")
    if reading.payload is not None and stale_seconds:
        staleness.note_right(address.digest)
    if reading.payload is not None and not reading.is_due(time.time()):
        return _hit(address, reading, reading.payload, load, compute)
    if reading.in_flight:
        return bypass(address.family, compute, "commit")  # it could not be stored
    spare = reading.payload if reading.payload is not None else _stale(address, reading, stale_seconds)
    with turns.take(address, reading, wait=spare is None) as turn:
        latest = turn.reading
        if latest.payload is not None and latest.header != reading.header:
            return _hit(address, latest, latest.payload, load, compute)
        if spare is not None and not turn.ours:
            status = "hit" if spare is reading.payload else "stale"
            return _hit(address, reading, spare, load, compute, status=status)
        return _miss(
            address,
            latest,
            compute,
            timeout_seconds=timeout_seconds,
            stale_seconds=stale_seconds,
            depends_on=depends_on,
        )


def bypass(family: str, compute: Callable[[], Computed[T]], reason: str) -> Served[T]:
    return _bypassed(family, compute(), reason)


def _reason_to_bypass() -> str:
    if not settings.ENABLED:
        return "disabled"
    # Others may still be served what this process knows to be wrong; whoever wrote it must not be.
    if unsent.waiting():
        return "redis"
    return observer.reason_for_doubt()


def _stale(address: Address, reading: Reading, seconds: float) -> bytes | None:
    if not seconds or observer.is_recording():  # what is computed from it would be stored as if it were of now
        return None
    if reading.is_changed:
        may = staleness.may_be_served(address.digest, reading.tags, seconds)
    else:
        may = reading.header is not None and time.time() <= reading.header.expires_at + seconds
    return reading.outdated if may else None


def _hit(
    address: Address,
    reading: Reading,
    payload: bytes,
    load: Callable[[bytes], T],
    compute: Callable[[], Computed[T]],
    *,
    status: str = "hit",
) -> Served[T]:
    try:
        value = load(payload)
    except ValueError as error:  # damaged, or of somebody else's making
        logger.warning("entry corrupt family=%s error=%r", address.family, str(error))
        with suppress(RedisError):
            readings.forget(address)
        return bypass(address.family, compute, "corrupt")
    _count(address.family, status)
    if signals.cache_hit.receivers:
        signals.cache_hit.send_robust(sender=None, family=address.family)
    observer.depend_on(reading.tags)
    return Served(value=value, status=status)


def _miss(
    address: Address,
    reading: Reading,
    compute: Callable[[], Computed[T]],
    *,
    timeout_seconds: float,
    stale_seconds: float,
    depends_on: frozenset[str],
) -> Served[T]:
    started = time.monotonic()
    with observer.recording() as read:
        computed = compute()
        read |= depends_on | {tags.of_view(address.family)}
    seconds = time.monotonic() - started
    # Doubt once more: the computation may have written, or opened a transaction.
    if refusal := computed.refusal or _reason_to_bypass() or _reason_of_size(computed.payload):
        turns.open_to_all(address)
        return _bypassed(address.family, computed, refusal)
    try:
        stored = readings.store(
            address,
            reading,
            computed.payload,
            read,
            timeout_seconds=timeout_seconds,
            stale_seconds=stale_seconds,
            took_seconds=seconds,
        )
    except RedisError as error:
        logger.debug("store failed family=%s error=%r", address.family, error)
        return _bypassed(address.family, computed, "redis")
    if not stored:
        members.count("cache.refused")  # something it depends on has changed meanwhile
    elif stale_seconds:
        staleness.note_right(address.digest)
    _count(address.family, "miss")
    signals.cache_missed.send_robust(sender=None, family=address.family, seconds=seconds)
    return Served(value=computed.value, status="miss")


def _reason_of_size(payload: bytes) -> str:
    return "size" if len(payload) > settings.MAX_ENTRY_BYTES else ""


def _bypassed(family: str, computed: Computed[T], reason: str) -> Served[T]:
    members.count_each(*_counters(family, "bypass"), f"cache.bypass;{reason}")
    return Served(value=computed.value, status=f"bypass;{reason}")


def _count(family: str, what: str) -> None:
    members.count_each(*_counters(family, what))


@functools.cache
def _counters(family: str, what: str) -> tuple[str, str]:
    return f"cache.{what}", f"cache.{what}:{family}"
