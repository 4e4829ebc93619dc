"""Entries in Redis: what is stored at an address, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scaling_kit.cache import marks, sweeper
from scaling_kit.cache.tags import EPOCH, TAG_SECONDS, bump, key_of, keys_of, mget, redis_client
from scaling_kit.redis import Script

STORE = Script.beside(__file__, "store", after="tag")
RELEASE = Script.beside(__file__, "release", idempotent=True)

LEARNED_TAGS = 64


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an entry is. Entries of one family (a view) mostly have the same tags."""

    family: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What Redis says about an address at one moment.

    `payload` is None unless there is a valid entry. `claimed`: someone is computing it.
    """

    sequence: int
    payload: bytes | None = None
    tags: frozenset[str] = frozenset()
    claimed: bool = False


_learned: dict[str, frozenset[str]] = {}


def read(address: Address) -> Reading:
    """One MGET, or a second one when the entry has tags that its family did not have before.

    Raises `redis.RedisError`.
    """
    sweeper.sweep_if_due()
    asked = _learned.get(address.family, frozenset({EPOCH}))
    reading, unknown = _look(address, asked)
    if unknown:
        asked = _learned[address.family] = reading.tags if len(asked | unknown) > LEARNED_TAGS else asked | unknown
        reading, _ = _look(address, asked)
    return reading


def store(address: Address, reading: Reading, payload: bytes, tags: Iterable[str], *, timeout_seconds: float) -> bool:
    """Store what was computed after `reading`. False if it may be out of date already.

    Raises `redis.RedisError`.
    """
    names = sorted({EPOCH, *tags})
    lifetime_ms = round(timeout_seconds * 1000)
    header = " ".join([str(reading.sequence), *names]).encode()
    stored = STORE(
        redis_client(),
        [key_of("sequence"), key_of("entry", address.digest), *keys_of(names)],
        [reading.sequence, header + b"\n" + payload, lifetime_ms, lifetime_ms + TAG_SECONDS * 1000],
    )
    return bool(stored)


def claim(address: Address, token: str, *, seconds: float) -> bool:
    """Become the one who computes this entry, of all processes. Raises `redis.RedisError`."""
    return bool(redis_client().set(key_of("claim", address.digest), token, nx=True, px=round(seconds * 1000)))


def release(address: Address, token: str) -> None:
    """Give a claim up, if it is still ours. Raises `redis.RedisError`."""
    RELEASE(redis_client(), [key_of("claim", address.digest)], [token])


def _look(address: Address, asked: frozenset[str]) -> tuple[Reading, frozenset[str]]:
    """The reading, and the tags of the entry whose values would have been needed too."""
    names = tuple(asked)
    sequence, entry, claimed, *bumps = mget(
        [key_of("sequence"), key_of("entry", address.digest), key_of("claim", address.digest), *keys_of(names)]
    )
    if sequence is None:
        return Reading(sequence=bump(()), claimed=claimed is not None), frozenset()
    if entry is None:
        return Reading(sequence=int(sequence), claimed=claimed is not None), frozenset()
    header, _, payload = entry.partition(b"\n")
    stored_at, *tags = header.decode().split(" ")
    bumped_at = dict(zip(names, bumps, strict=True))
    valid = all(_is_current(bumped_at.get(tag), int(stored_at)) for tag in tags)
    if not valid:
        marks.expire(bumped_at)
    reading = Reading(
        sequence=int(sequence),
        payload=payload if valid else None,
        tags=frozenset(tags),
        claimed=claimed is not None,
    )
    return reading, reading.tags - asked


def _is_current(bumped_at: bytes | None, stored_at: int) -> bool:
    # What is not a number is a commit in flight; a missing tag may have been bumped before it went missing.
    return bumped_at is not None and bumped_at.isdigit() and int(bumped_at) <= stored_at
