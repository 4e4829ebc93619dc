"""Strict mode: what a transaction has changed is marked in Redis while it commits, and until its bump has arrived.

A reader who meets a mark neither believes an entry nor stores one: it cannot know whether it reads the data of before
or after the COMMIT. A mark has a deadline, which its process puts off while the COMMIT goes on. If nothing was heard
until then (the writer was killed), the next reader bumps in the writer's place.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from scaling_kit.cache.conf import settings
from scaling_kit.cache.tags import TAG_SECONDS, first_needed, key_of, keys_of, redis_client, tell
from scaling_kit.redis import RedisError, Script

logger = logging.getLogger(__name__)

MARK = Script.beside(__file__, "mark", idempotent=True, after="tag")
PROLONG = Script.beside(__file__, "prolong", idempotent=True, after="tag")
EXPIRE = Script.beside(__file__, "expire", idempotent=True, after="tag")
first_needed.append(MARK)

ASK_SECONDS = 0.5
"""How often a process has the server look at the deadlines of one tag. Only the server's clock counts."""

MOST_ASKED = 1000

PROLONGED_AFTER = 1 / 3
"""Of SCALING_KIT_CACHE_MARK_SECONDS: how long after the last time the deadlines of a commit are put off."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Of one transaction, on all its tags. If `is_set` is False, Redis may have it all the same: a lost reply."""

    token: str
    is_set: bool


_asked_at: dict[str, float] = {}


def put(names: Iterable[str]) -> Mark:
    """Mark these tags for SCALING_KIT_CACHE_MARK_SECONDS at most, in one round trip. Never raises a Redis error.

    `tags.bump(names, release=[mark.token])` takes the mark away.
    """
    token = secrets.token_hex(8)
    marked = list(names)
    try:
        MARK(
            redis_client(),
            [key_of("sequence"), *keys_of(marked)],
            [TAG_SECONDS * 1000, token, round(settings.MARK_SECONDS * 1e6)],
        )
    except RedisError as error:
        logger.warning("mark unsent error=%r", str(error))
        return Mark(token=token, is_set=False)
    tell(marked)
    return Mark(token=token, is_set=True)


@contextmanager
def prolonged(names: Collection[str], mark: Mark | None) -> Iterator[None]:
    """While the body, which commits, goes on in a process that lives, the deadline of this mark does not pass."""
    if mark is None or not mark.is_set:  # then there is a row in the outbox
        yield
        return
    _prolonger.add(mark, names)
    try:
        yield
    finally:
        _prolonger.remove(mark)


def expire(values: Mapping[str, bytes | None]) -> None:
    """Have those of these tags bumped whose marks are past their deadline.

    Costs nothing if none is marked, else a round trip at most every 0.5 s. Raises `redis.RedisError`.
    """
    marked = [name for name, value in values.items() if value and not value.isdigit() and _is_time_to_ask(name)]
    if marked:
        EXPIRE(redis_client(), [key_of("sequence"), *keys_of(marked)], [TAG_SECONDS * 1000])


class _Prolonger:
    """The commits of this process, and the thread that puts their deadlines off, which lives only while there are any.

    Mostly it finds none when it looks for the first time, as none takes so long.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, Collection[str]] = {}
        self._thread: threading.Thread | None = None

    def add(self, mark: Mark, names: Collection[str]) -> None:
        with self._lock:
            self._names[mark.token] = names
            if self._thread is None:
                thread = threading.Thread(target=self._prolong_all, name="scaling_kit-marks", daemon=True)
                with suppress(
                    RuntimeError
                ):  # the interpreter shuts down, or there are too many: no reason not to commit
                    thread.start()
                    self._thread = thread

    def remove(self, mark: Mark) -> None:
        with self._lock:
            self._names.pop(mark.token, None)

    def _prolong_all(self) -> None:
        while True:
            time.sleep(settings.MARK_SECONDS * PROLONGED_AFTER)
            with self._lock:
                committing = list(self._names.items())
                if not committing:
                    self._thread = None
                    return
            for token, names in committing:
                _prolong(token, names)


def _prolong(token: str, names: Collection[str]) -> None:
    try:
        PROLONG(redis_client(), keys_of(names), [TAG_SECONDS * 1000, token, round(settings.MARK_SECONDS * 1e6)])
    except Exception as error:
        logger.warning("mark not prolonged error=%r", str(error))


def _is_time_to_ask(name: str) -> bool:
    now = time.monotonic()
    if now < _asked_at.get(name, 0.0) + ASK_SECONDS:
        return False
    if len(_asked_at) >= MOST_ASKED:
        _asked_at.clear()
    _asked_at[name] = now
    return True


_prolonger = _Prolonger()


def _forget_commits_of_the_parent() -> None:
    global _prolonger
    _prolonger = _Prolonger()


os.register_at_fork(after_in_child=_forget_commits_of_the_parent)
