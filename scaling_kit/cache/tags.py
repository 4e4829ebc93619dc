"""Sequence tags: what an entry depends on, and since when it has not changed.

A tag stands for a table, or for a name of your own. Its value in Redis is the number of its last bump, out of one
sequence for all tags (and a mark of each transaction that is just committing: see `marks`). An entry carries the
sequence as it was *before* anything was computed, and the tags of what was read; it is valid while none of them has a
later number. So whatever changed during the computation is later than the entry, even if the computation had read it
before and found out about the dependency afterwards.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from urllib.parse import quote

import redis
from django.db.models import Model

from scaling_kit.cache.conf import settings
from scaling_kit.redis import Purpose, Script, client, key

logger = logging.getLogger(__name__)

BUMP = Script.beside(__file__, "bump", idempotent=True, after="tag")
SAME_SERVER = Script.beside(__file__, "same_server", idempotent=True, after="tag")

first_needed = [BUMP]
"""Scripts that a server has to know before the first write."""

EPOCH = "*"
"""The tag that every entry has."""

VIEW = "view."
"""What the tags of views begin with."""

TAG_SECONDS = 24 * 60 * 60
"""Tags outlive every entry that names them by at least this; an entry with a tag missing is not valid."""

Dependency = type[Model] | Model | str

listeners: list[Callable[[Collection[str]], None]] = []
"""Told of every tag that this process bumps, marks or touches, after Redis has been."""


def of_table(table: str) -> str:
    return f"table.{quote(table.lower(), safe='')}"


def of_view(family: str) -> str:
    """The tag of whatever a view, or a cached function, has computed."""
    return VIEW + family_id(family)


def family_id(family: str) -> str:
    return hashlib.sha256(family.encode()).hexdigest()[:12]


def of(*what: Dependency) -> set[str]:
    """The tags of models (or the models of instances) and of names of your own."""
    return {tag for each in what for tag in _of_one(each)}


def bump(tags: Iterable[str], *, release: Iterable[str] = ()) -> int:
    """Make every entry with one of these tags invalid, at once and for all processes; return the sequence.

    Takes the marks with the tokens in `release` from these tags; those of others stay.
    Costs the same with one entry and with a million. Raises `redis.RedisError`.
    """
    names = list(tags)
    sequence = int(BUMP(redis_client(), [key_of("sequence"), *keys_of(names)], [TAG_SECONDS * 1000, *release]))
    tell(names)
    return sequence


def tell(names: Collection[str]) -> None:
    for listener in listeners:
        listener(names)


def fetch_bumps(tags: Iterable[str]) -> dict[str, float]:
    """When each tag was last bumped, in seconds since the epoch; without those never bumped. Raises `RedisError`."""
    names = list(tags)
    values = mget(keys_of(names)) if names else []
    numbers = [value.partition(b";")[0] if value else b"" for value in values]
    return {name: int(number) / 1e6 for name, number in zip(names, numbers, strict=True) if number.isdigit()}


def _of_one(what: Dependency) -> set[str]:
    if isinstance(what, str):
        return {f"name.{quote(what, safe='')}"}
    return {of_table(model._meta.db_table) for model in [what, *what._meta.get_parent_list()]}


def mget(keys: list[str]) -> list[bytes | None]:
    values: list[bytes | None] = redis_client().execute_command("MGET", *keys)  # type: ignore[no-untyped-call]
    return values


def redis_client() -> redis.Redis:
    return client(Purpose.REQUEST, settings.REDIS_URL, decode=False, on_connect=_ensure_same_server)


def _ensure_same_server(connection: redis.Connection) -> None:
    """Whatever a new connection leads to, no entry is believed that an earlier server may have known to be invalid."""
    keys = [key_of("run_id"), key_of("sequence"), *keys_of([EPOCH])]
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
            _load_scripts(connection)


def _load_scripts(connection: redis.Connection) -> None:
    """What a server that hangs was sent is done when it goes on, unless that names a script it does not know."""
    for script in first_needed:
        connection.send_command("SCRIPT", "LOAD", script.source)  # type: ignore[no-untyped-call]
        with suppress(redis.ResponseError):  # not allowed: then the first call of each brings it along
            connection.read_response()


def keys_of(tags: Iterable[str]) -> list[str]:
    stem = key_of("tag")
    return [f"{stem}:{tag}" for tag in tags]


def key_of(*parts: str) -> str:
    return key("cache", *parts)
