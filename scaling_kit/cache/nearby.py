"""The first level: entries in the memory of this process, dropped when Redis says that a tag of theirs has changed.

Redis tells by pushes (`CLIENT TRACKING ... BCAST`, RESP3) on a connection of our own, which is emptied before each
look: what has arrived when a read begins is known to it. Redis writes a push to our socket before it writes the reply
to whoever bumped, so on one machine a read that begins after a commit has returned knows of it. There are three
exceptions: while the answer to a PING of ours is due, replies may be written in another order, so nothing is believed
then; when the socket is full, pushes wait in Redis, so after much at once nothing is believed until a PING is answered;
and with `io-threads` above 1 there is no order. Over a network a push may come later than the reply by as much as one
way takes longer than the other. So an answer of this level may go to a client, but into no other entry: what came late
for the one would be in the other until its timeout, for everyone.

If the connection is delayed, entries are believed for SILENCE_SECONDS at most; if it is lost, for no moment. What this
process changes itself, it knows at once.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis
import redis

from scaling_kit.cache import tags
from scaling_kit.cache.conf import settings
from scaling_kit.redis import BREAKER_SECONDS, RedisError

logger = logging.getLogger(__name__)

PING_SECONDS = 0.25
SILENCE_SECONDS = 1.0
# A connection that has not answered for so long is made anew: TCP would find out after a quarter of an hour.
DEAD_SECONDS = 5.0
# Nothing is believed for longer without asking Redis, whatever the clocks of hosts say.
LONGEST_SECONDS = 30.0
REFUSED_SECONDS = 60.0
# After more than this at once, there may be more that did not fit into the buffers of the sockets. They hold 16 KB even
# where they are smallest; and Redis writes no more than 64 KB before it turns to others.
PILE_BYTES = 8192
LARGEST_SHARE = 0.1
# Measured, on CPython 3.11: what an entry takes besides its payload, and besides the letters of each tag.
OVERHEAD_BYTES = 1100
TAG_BYTES = 60
MOST_CHANGES = 10_000
FORGOTTEN = "forgotten."
"""With the digest of an address: the tag by which one entry is forgotten."""

_PING = hiredis.pack_command(("PING",))
_CHUNK = 65536


class Entry(Protocol):
    """As much of a `readings.Reading` as matters here."""

    @property
    def payload(self) -> bytes | None: ...
    @property
    def tags(self) -> frozenset[str]: ...


@dataclass(slots=True)
class _Kept:
    entry: Any
    tags: tuple[str, ...]
    right_at: int
    """None of the changes up to this one concerns it. At first: those known before Redis was asked for it."""
    until: float
    size: int


class Level:
    """One per process. Every method may be called by any thread; only the one that connects waits for the network."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._changes = 0
        self._changed: dict[str, int] = {}
        self._connection: redis.Connection | None = None
        self._reader = hiredis.Reader()
        self._stem = ""
        self._next_attempt = 0.0
        self._pinged_at: float | None = None
        self._complete_at = 0.0
        """When Redis had told us of everything, as an answer to a PING of then proves."""

    def find(self, digest: str) -> Any:
        """The entry, if nothing it depends on has changed since Redis was asked for it; else None."""
        if self._connection is None or self._stem != tags.key_of("tag"):
            self._connect()
            return None
        # A thread that finds the lock taken waits, and takes in for itself what has come since: what the holder has
        # taken in may be of before this read began. The holder never waits for the network.
        with self._lock:
            if not self._is_listening():
                return None
            kept = self._kept.get(digest)
            if kept is None:
                return None
            if kept.until < time.monotonic() or self._has_changed(kept):
                self._drop(digest)
                return None
            self._kept.move_to_end(digest)
            return kept.entry

    def moment(self) -> int:
        """To be taken before Redis is asked, and given to `keep`."""
        return self._changes

    def keep(self, digest: str, entry: Entry, *, asked: int, seconds: float) -> None:
        names = (FORGOTTEN + digest, *entry.tags)
        size = len(entry.payload or b"") + OVERHEAD_BYTES + sum(len(name) + TAG_BYTES for name in names)
        if size > settings.NEARBY_BYTES * LARGEST_SHARE:
            return
        with self._lock:
            if self._connection is None:
                return
            self._drop(digest)
            until = time.monotonic() + min(seconds, LONGEST_SECONDS)
            self._kept[digest] = _Kept(entry, names, asked, until, size)
            self._bytes += size
            while self._bytes > settings.NEARBY_BYTES:
                self._drop(next(iter(self._kept)))

    def changed(self, names: Iterable[str]) -> None:
        """These tags have been bumped, or marked, by this process."""
        with self._lock:
            self._note(names)

    def close_in_child(self) -> None:
        """Close our copy of the parent's socket, without a word to Redis: else it would outlive the parent."""
        # Another thread of the parent may have been disconnecting at the moment of the fork.
        sock = self._connection._sock if self._connection is not None else None
        if sock is not None:
            with suppress(OSError):
                os.close(sock.detach())

    def _is_listening(self) -> bool:
        """Take in what Redis has said. False if it cannot be trusted to have said everything."""
        if self._connection is None:
            return False
        now = time.monotonic()
        try:
            self._receive()
            if self._pinged_at is not None:
                if now - self._pinged_at > DEAD_SECONDS:
                    self._disconnect()
                return False
            if now - self._complete_at > PING_SECONDS:
                self._socket().send(_PING)
                self._pinged_at = now
        except (OSError, RedisError, hiredis.ProtocolError):
            self._disconnect()
            return False
        return now - self._complete_at < SILENCE_SECONDS and not self._reader.has_data()

    def _connect(self) -> None:
        """One thread does, without the lock: the others ask Redis meanwhile."""
        now = time.monotonic()
        if now < self._next_attempt or not self._connecting.acquire(blocking=False):
            return
        try:
            self._next_attempt = now + BREAKER_SECONDS
            stem = tags.key_of("tag")
            connection = self._connected(stem)
            with self._lock:
                self._disconnect()
                if connection is not None:
                    self._listen(connection, stem, now)
        finally:
            self._connecting.release()

    def _connected(self, stem: str) -> Any:
        """A `redis.Connection` on which pushes come, or None."""
        pool = tags.redis_client().connection_pool
        connection = pool.connection_class(
            **{**pool.connection_kwargs, "protocol": 3, "redis_connect_func": None, "decode_responses": False}
        )
        try:
            connection.connect()
            # For a subscriber, Redis lets no more than `client-output-buffer-limit pubsub` pile up (32 MB, or 8 MB for
            # a minute) when this process does not read any more; for others there is no limit.
            for command in (
                ("SUBSCRIBE", tags.key_of("nearby")),
                ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", f"{stem}:"),
            ):
                connection.send_command(*command)
            connection.read_response()  # the answer to SUBSCRIBE is a push, unless it is an error
        except redis.ResponseError as error:
            connection.disconnect()
            self._next_attempt = time.monotonic() + REFUSED_SECONDS
            logger.warning(
                "first level off for %s s, Redis refuses CLIENT TRACKING or SUBSCRIBE error=%r",
                REFUSED_SECONDS,
                str(error),
            )
            return None
        except (RedisError, OSError):
            connection.disconnect()
            return None
        return connection

    def _listen(self, connection: redis.Connection, stem: str, now: float) -> None:
        # `_disconnect` has counted a change just now: what Redis was asked before is not believed.
        self._connection, self._stem, self._reader = connection, stem, hiredis.Reader()
        self._socket().setblocking(False)
        self._pinged_at, self._complete_at = None, now

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._connection = None
        self._forget_all()

    def _receive(self) -> None:
        taken = 0
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            while chunk := self._socket().recv(_CHUNK):
                self._reader.feed(chunk)
                taken += len(chunk)
            raise ConnectionResetError
        while (message := self._reader.gets()) is not False:
            if not isinstance(message, hiredis.PushNotification):
                self._complete_at, self._pinged_at = self._pinged_at or self._complete_at, None
            elif message[0] == b"invalidate":
                self._take_in(message[1])
        if taken > PILE_BYTES:
            self._complete_at = -math.inf

    def _take_in(self, keys: list[bytes] | None) -> None:
        if keys is None:  # FLUSHALL
            self._forget_all()
        else:
            start = len(self._stem) + 1
            self._note(key.decode(errors="replace")[start:] for key in keys)

    def _note(self, names: Iterable[str]) -> None:
        for name in names:
            self._changes += 1
            self._changed[name] = self._changes
        if len(self._changed) > MOST_CHANGES:
            self._forget_all()

    def _has_changed(self, kept: _Kept) -> bool:
        if kept.right_at == self._changes:
            return False
        changed = self._changed
        if any(changed.get(tag, 0) > kept.right_at for tag in kept.tags):
            return True
        kept.right_at = self._changes
        return False

    def _forget_all(self) -> None:
        self._kept.clear()
        self._bytes = 0
        # Whatever Redis was asked before now may have missed changes that nobody told us of.
        self._changes += 1
        self._changed = {tags.EPOCH: self._changes}

    def _drop(self, digest: str) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self._bytes -= kept.size

    def _socket(self) -> Any:
        return self._connection._sock  # type: ignore[union-attr]


_level = Level()
_of_the_parent: list[Level] = []


def level() -> Level | None:
    """This process's, or None where it is turned off."""
    return _level if settings.NEARBY_BYTES else None


def _leave_the_connection_to_the_parent() -> None:
    global _level
    of_the_parent, _level = _level, Level()
    _of_the_parent.append(of_the_parent)  # kept: when it is collected, its TLS would say goodbye in the parent's name
    of_the_parent.close_in_child()


os.register_at_fork(after_in_child=_leave_the_connection_to_the_parent)
tags.listeners.append(lambda names: _level.changed(names) if settings.NEARBY_BYTES else None)
