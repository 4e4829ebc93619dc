"""Entries in Redis: what is stored at an address, and whether it may be believed.

An entry is a header, a newline, and the payload. The header is
`<sequence>;<expires at>;<seconds kept after that>;<seconds it took> <tag> ...`. Its times, by the clock of the host
that stored it, decide when to compute anew, never whether an entry is right.
"""

from __future__ import annotations

import math
import random
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from scaling_kit import members
from scaling_kit.cache import marks, nearby, sweeper
from scaling_kit.cache.conf import settings
from scaling_kit.cache.tags import EPOCH, TAG_SECONDS, VIEW, bump, family_id, key_of, keys_of, mget, redis_client, tell
from scaling_kit.redis import Script

STORE = Script.beside(__file__, "store", after="tag")
RELEASE = Script.beside(__file__, "release", idempotent=True)

LEARNED_TAGS = 64
FORGOTTEN_MS = 10_000
REMEMBERED_ADDRESSES = 4096


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an entry is. Entries of one family (a view) mostly have the same tags.

    `expects`: tags, besides those of its family, that this entry will have if there is one.
    """

    family: str
    digest: str
    expects: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Header:
    sequence: int
    """Of before the computation: whatever has been bumped later was not seen by it."""
    expires_at: float
    stale_seconds: float
    """How long after that it is kept, to be served while it is computed anew."""
    took_seconds: float
    tags: tuple[str, ...]

    def encode(self) -> bytes:
        times = f"{self.sequence};{self.expires_at:.3f};{self.stale_seconds:.3f};{self.took_seconds:.4f}"
        return " ".join([times, *self.tags]).encode()

    @classmethod
    def decode(cls, header: bytes) -> Header:
        """Raises `ValueError`."""
        times, *tags = header.decode().split(" ")
        sequence, *seconds = times.split(";")
        expires_at, stale_seconds, took_seconds = map(float, seconds)
        return cls(int(sequence), expires_at, stale_seconds, took_seconds, tuple(tags))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What Redis says about an address at one moment.

    `payload` is None unless there is a valid entry. `claimed`: someone is computing it.
    """

    sequence: int
    asked_at: float
    """By the monotonic clock of this process."""
    payload: bytes | None = None
    header: Header | None = None
    claimed: bool = False
    outdated: bytes | None = None
    """The payload of an entry that is not valid any more, but was until its end, or until a tag was bumped."""
    is_changed: bool = False
    """A tag was bumped."""
    in_flight: bool = False
    """What the entry depends on is being committed: neither is it right, nor could another one be stored."""

    @property
    def tags(self) -> frozenset[str]:
        return frozenset(self.header.tags) if self.header else frozenset()

    def is_due(self, now: float) -> bool:
        """Compute it early? The surer the nearer its end is, and the longer it takes.

        So that no crowd meets an entry that has just expired: XFetch of Vattani, Chierichetti and Lowenstein, "Optimal
        Probabilistic Cache Stampede Prevention", 2015, with beta = 1.
        """
        if self.header is None:
            return False
        took = self.header.took_seconds
        if now + 40 * took < self.header.expires_at:  # the probability is below 1e-17, as is the least random number
            return False
        if now > self.header.expires_at:  # Redis would have deleted it: then it is the clock of this host that is wrong
            return False
        return now - took * math.log(1.0 - random.random()) >= self.header.expires_at  # noqa: S311  (no secret)


class _Question:
    """What to ask for an address: its keys, spelled once, and the last header that was found there."""

    def __init__(self, address: Address, names: tuple[str, ...], stem: str) -> None:
        self.names = names
        self.tags = frozenset(names)
        self.stem = stem
        self.keys = [key_of("sequence"), entry_key(address), _claim_key(address), *keys_of(names)]
        self._encoded: bytes | None = None
        self._header: Header

    def header(self, encoded: bytes) -> Header:
        """Raises `ValueError`."""
        if encoded != self._encoded:
            self._header = Header.decode(encoded)
            self._encoded = encoded
        return self._header


class _Questions:
    """The latest ones asked, by address. Of a new address, the tags of its family are tried first."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, _Question] = OrderedDict()
        self._learned: dict[str, frozenset[str]] = {}

    def clear(self) -> None:
        self._by_digest.clear()
        self._learned.clear()

    def of(self, address: Address) -> _Question:
        stem = key_of()
        known = self._by_digest.get(address.digest)
        if known is not None and known.stem == stem and address.expects <= known.tags:
            return known
        learned = self._learned.get(address.family, frozenset({EPOCH}))
        return self._put(address, tuple(learned | address.expects), stem)

    def learn(self, address: Address, tags: tuple[str, ...]) -> _Question:
        """The entry has these. Its family is told of those that do not belong to one scope."""
        shared = frozenset(tag for tag in tags if "|" not in tag)
        learned = self._learned.get(address.family, frozenset({EPOCH})) | shared
        self._learned[address.family] = shared if len(learned) > LEARNED_TAGS else learned
        return self._put(address, tags, key_of())

    def _put(self, address: Address, names: tuple[str, ...], stem: str) -> _Question:
        question = self._by_digest[address.digest] = _Question(address, names, stem)
        while len(self._by_digest) > REMEMBERED_ADDRESSES:
            with suppress(KeyError):  # another thread may have taken the last one
                self._by_digest.popitem(last=False)
        return question


_questions = _Questions()


def read(address: Address, *, near: bool = True) -> Reading:
    """One MGET, or a second one when the entry has tags that were not expected; none if the entry is near.

    Raises `redis.RedisError`.
    """
    sweeper.sweep_if_due()
    level = nearby.level()
    if level is None:
        return _ask(address)
    found: Reading | None = level.find(address.digest) if near else None
    if found is not None:
        members.count("cache.nearby")
        return found
    moment = level.moment()
    reading = _ask(address)
    if reading.payload is not None and reading.header is not None:
        level.keep(address.digest, reading, asked=moment, seconds=reading.header.expires_at - time.time())
    return reading


def _ask(address: Address) -> Reading:
    question = _questions.of(address)
    reading = _look(question)
    if reading.header is not None and not reading.tags <= question.tags:
        reading = _look(_questions.learn(address, reading.header.tags))
    return reading


def entry_key(address: Address) -> str:
    return key_of("entry", family_id(address.family), address.digest)


def store(
    address: Address,
    reading: Reading,
    payload: bytes,
    tags: Iterable[str],
    *,
    timeout_seconds: float,
    stale_seconds: float = 0.0,
    took_seconds: float = 0.0,
) -> bool:
    """Store what was computed after `reading`. False if it may be out of date already.

    It is kept for `stale_seconds` longer than it is valid. When stored, it is nobody's to compute any more.
    Raises `redis.RedisError`.
    """
    names = sorted({EPOCH, *tags})
    header = Header(reading.sequence, time.time() + timeout_seconds, stale_seconds, took_seconds, tuple(names))
    lifetime_ms = round((timeout_seconds + stale_seconds) * 1000)
    stored = STORE(
        redis_client(),
        [key_of("sequence"), entry_key(address), _claim_key(address), *keys_of(names)],
        [
            reading.sequence,
            header.encode() + b"\n" + payload,
            lifetime_ms,
            lifetime_ms + TAG_SECONDS * 1000,
            _replica_may_lack_us(reading),
        ],
    )
    if stored:
        _tell_name(address.family)
    return bool(stored)


def _replica_may_lack_us(reading: Reading) -> int:
    """How long ago a bump must be by now to have reached the replicas when they were read from; 0: there are none."""
    if not settings.LAG_SECONDS:
        return 0
    return round((settings.LAG_SECONDS + time.monotonic() - reading.asked_at) * 1e6)


def forget(address: Address) -> None:
    """Delete this entry. Who is computing it at this moment may still store it. Raises `redis.RedisError`."""
    tag = nearby.FORGOTTEN + address.digest
    pipeline = redis_client().pipeline()
    pipeline.delete(entry_key(address))
    pipeline.set(keys_of([tag])[0], 0, px=FORGOTTEN_MS)  # told to the first levels of all processes
    pipeline.execute()
    tell([tag])


def claim(address: Address, token: str, *, seconds: float) -> bool:
    """Become the one who computes this entry, of all processes. Raises `redis.RedisError`."""
    return bool(redis_client().set(_claim_key(address), token, nx=True, px=round(seconds * 1000)))


def is_claimed(address: Address) -> bool:
    """Is someone computing this entry? Raises `redis.RedisError`."""
    return bool(redis_client().exists(_claim_key(address)))


def release(address: Address, token: str) -> None:
    """Give a claim up, if it is still ours. Raises `redis.RedisError`."""
    RELEASE(redis_client(), [_claim_key(address)], [token])


def _tell_name(family: str) -> None:
    """For those who look: the keys of entries have the id of their family only."""
    key = key_of("families")
    if (key, family) not in _told:
        redis_client().hset(key, family_id(family), family)
        _told.add((key, family))


_told: set[tuple[str, str]] = set()


def _claim_key(address: Address) -> str:
    return key_of("claim", address.digest)


def _look(question: _Question) -> Reading:
    asked_at = time.monotonic()
    sequence, entry, claim, *bumps = mget(question.keys)
    known = int(sequence) if sequence is not None else bump(())
    claimed = claim is not None
    if sequence is None or entry is None:
        return Reading(sequence=known, asked_at=asked_at, claimed=claimed)
    encoded, _, payload = entry.partition(b"\n")
    try:
        header = question.header(encoded)
    except ValueError:  # not of our making: computed and stored anew
        return Reading(sequence=known, asked_at=asked_at, claimed=claimed)
    values = bumps if header.tags == question.names else _in_order(header.tags, question.names, bumps)
    if not _are_current(values, header.sequence):
        marks.expire(dict(zip(header.tags, values, strict=True)))
        return Reading(
            sequence=known,
            asked_at=asked_at,
            claimed=claimed,
            header=header,
            outdated=payload if _was_right(header, values) else None,
            is_changed=True,
            in_flight=any(value is not None and not value.isdigit() for value in values),
        )
    if header.stale_seconds and time.time() >= header.expires_at:
        return Reading(sequence=known, asked_at=asked_at, claimed=claimed, header=header, outdated=payload)
    return Reading(sequence=known, asked_at=asked_at, claimed=claimed, header=header, payload=payload)


def _in_order(tags: tuple[str, ...], asked: tuple[str, ...], bumps: list[bytes | None]) -> list[bytes | None]:
    bumped = dict(zip(asked, bumps, strict=True))
    return [bumped.get(tag) for tag in tags]


def _are_current(values: list[bytes | None], sequence: int) -> bool:
    # What is not a number is a commit in flight; a missing tag may have been bumped before it went missing.
    return all(value is not None and value.isdigit() and int(value) <= sequence for value in values)


def _was_right(header: Header, values: list[bytes | None]) -> bool:
    """Has nothing happened to it but bumps of tables and names? Otherwise it may not even be old news."""
    return all(
        value is not None
        and value.isdigit()
        and (int(value) <= header.sequence or not (tag == EPOCH or tag.startswith(VIEW)))
        for tag, value in zip(header.tags, values, strict=True)
    )
