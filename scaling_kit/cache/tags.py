"""Sequence tags: what an entry depends on, and since when it has not changed.

A tag stands for a table, or for a name of your own. Its value in Redis is the number of its last bump, out of one
sequence for all tags. An entry carries the sequence as it was *before* anything was computed, and the tags of what was
read; it is valid while none of them has a later number. So whatever changed during the computation is later than the
entry, even if the computation had read it before and found out about the dependency afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import redis
from django.db.models import Model

from scaling_kit.cache.conf import settings
from scaling_kit.redis import Purpose, Script, client, key

logger = logging.getLogger(__name__)

BUMP = Script.beside(__file__, "bump", idempotent=True)
STORE = Script.beside(__file__, "store")
RELEASE = Script.beside(__file__, "release", idempotent=True)
SAME_SERVER = Script.beside(__file__, "same_server", idempotent=True)

EPOCH = "*"
"""The tag that every entry has."""

TAG_SECONDS = 24 * 60 * 60
"""Tags outlive every entry that names them by at least this; an entry with a tag missing is not valid."""

LEARNED_TAGS = 64

Dependency = type[Model] | Model | str


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


def of_table(table: str) -> str:
    return f"table.{quote(table.lower(), safe='')}"


def of(*what: Dependency) -> set[str]:
    """The tags of models (or the models of instances) and of names of your own."""
    return {tag for each in what for tag in _of_one(each)}


def read(address: Address) -> Reading:
    """One MGET, or a second one when the entry has tags that its family did not have before.

    Raises `redis.RedisError`.
    """
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
        _redis(),
        [_key("sequence"), _key("entry", address.digest), *map(_tag_key, names)],
        [reading.sequence, header + b"\n" + payload, lifetime_ms, lifetime_ms + TAG_SECONDS * 1000],
    )
    return bool(stored)


def bump(tags: Iterable[str]) -> int:
    """Make every entry with one of these tags invalid, at once and for all processes; return the sequence.

    Costs the same with one entry and with a million. Raises `redis.RedisError`.
    """
    return int(BUMP(_redis(), [_key("sequence"), *map(_tag_key, tags)], [TAG_SECONDS * 1000]))


def claim(address: Address, token: str, *, seconds: float) -> bool:
    """Become the one who computes this entry, of all processes. Raises `redis.RedisError`."""
    return bool(_redis().set(_key("claim", address.digest), token, nx=True, px=round(seconds * 1000)))


def release(address: Address, token: str) -> None:
    """Give a claim up, if it is still ours. Raises `redis.RedisError`."""
    RELEASE(_redis(), [_key("claim", address.digest)], [token])


def fetch_bumps(tags: Iterable[str]) -> dict[str, float]:
    """When each tag was last bumped, in seconds since the epoch; without those never bumped. Raises `RedisError`."""
    names = list(tags)
    values = _mget([_tag_key(name) for name in names]) if names else []
    return {name: int(value) / 1e6 for name, value in zip(names, values, strict=True) if value and value.isdigit()}


def _of_one(what: Dependency) -> set[str]:
    if isinstance(what, str):
        return {f"name.{quote(what, safe='')}"}
    return {of_table(model._meta.db_table) for model in [what, *what._meta.get_parent_list()]}


def _look(address: Address, asked: frozenset[str]) -> tuple[Reading, frozenset[str]]:
    """The reading, and the tags of the entry whose values would have been needed too."""
    names = tuple(asked)
    sequence, entry, claimed, *bumps = _mget(
        [_key("sequence"), _key("entry", address.digest), _key("claim", address.digest), *map(_tag_key, names)]
    )
    if sequence is None:
        return Reading(sequence=bump(()), claimed=claimed is not None), frozenset()
    if entry is None:
        return Reading(sequence=int(sequence), claimed=claimed is not None), frozenset()
    header, _, payload = entry.partition(b"\n")
    stored_at, *tags = header.decode().split(" ")
    bumped_at = dict(zip(names, bumps, strict=True))
    valid = all(_is_current(bumped_at.get(tag), int(stored_at)) for tag in tags)
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


def _mget(keys: list[str]) -> list[bytes | None]:
    values: list[bytes | None] = _redis().mget(keys)  # type: ignore[assignment]
    return values


def _redis() -> redis.Redis:
    return client(Purpose.REQUEST, settings.REDIS_URL, decode=False, on_connect=_ensure_same_server)


def _ensure_same_server(connection: redis.Connection) -> None:
    """Whatever a new connection leads to, no entry is believed that an earlier server may have known to be invalid."""
    keys = [_key("run_id"), _key("sequence"), _tag_key(EPOCH)]
    connection.send_command(  # type: ignore[no-untyped-call]
        "EVAL", SAME_SERVER.source, len(keys), *keys, TAG_SECONDS * 1000
    )
    try:
        is_other = connection.read_response()
    except redis.ResponseError as error:
        logger.warning("server_identity unknown, entries may be out of date after a fail-over error=%r", str(error))
    else:
        if is_other:
            logger.info("epoch bumped reason=other_server")


def _tag_key(tag: str) -> str:
    return _key("tag", tag)


def _key(*parts: str) -> str:
    return key("cache", *parts)
