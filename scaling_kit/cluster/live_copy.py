"""The copy of the run-time settings in the memory of this process, and the thread that keeps it right.

The database has the truth. A change, once committed, gives `version` in Redis a new value and is published there. The
thread reads the version at least every POLL_SECONDS, which a message shortens; at another version it reads the
database. While Redis does not answer it reads the database every AWAY_SECONDS instead, so a change is seen by all
within a second whatever becomes of messages, of Redis and of what it held. Every RELOAD_SECONDS the database is read
anyway: for what was changed in the table by hand, or by a process that was killed before it could tell.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import socket
import threading
import time
import uuid
from contextlib import closing, suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from scaling_kit.cluster.conf import settings
from scaling_kit.redis import Purpose, RedisError, client, key

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
AWAY_SECONDS = 0.5
RELOAD_SECONDS = 10.0
FIRST_SECONDS = 1.0
FRESH_SECONDS = 1.0
LOAD_SECONDS = 2.0
MOST_HANGING = 5
VERSION_TTL_SECONDS = 86400
_UNKNOWN = object()


class Copy:
    """One per process. `values` may be read by any thread."""

    def __init__(self, values: dict[str, Any] | None = None, right_at: float = 0.0) -> None:
        self.values = values or {}
        self.right_at = right_at
        """When the database was last read, or known to be unchanged. Monotonic."""
        self.is_followed = False
        self._starting = threading.Lock()
        self._loading = threading.Lock()
        self._tried = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="scaling_kit-live", daemon=True)
        self._seen: object = _UNKNOWN
        self._loaded_at = 0.0
        self.is_untold = False
        self._subscription: Any = None
        self._hanging: list[threading.Thread] = []
        self._was_reachable = True

    def start(self) -> None:
        """Returns when the database has been read, or could not be, or after FIRST_SECONDS."""
        from scaling_kit.cluster import live_entries

        with self._starting:
            if not self.is_followed:
                self.values = self.values or {name: entry.default for name, entry in live_entries.entries().items()}
                if settings.LIVE_FOLLOW:
                    self._thread.start()
                    if time.monotonic() - self.right_at > FRESH_SECONDS:
                        self._tried.wait(FIRST_SECONDS)
                self.is_followed = True

    def stop(self) -> None:
        if self._thread.is_alive():  # in a fork it is not, and the connection is the parent's
            self._stopped.set()
            self._interrupt()
            self._thread.join(timeout=FIRST_SECONDS)

    def load(self, connection: BaseDatabaseWrapper | None = None) -> bool:
        """Read the database, by a connection of our own unless one is given. False if that was not possible.

        Loads come one after the other, so that no older state replaces a newer one.
        """
        from scaling_kit.cluster import live_store

        if not self._loading.acquire(timeout=FIRST_SECONDS):  # another thread waits for the database
            return False
        try:
            self.values = live_store.fetch(connection) if connection is not None else self._fetch_aside()
        except (DatabaseError, InterfaceError) as error:
            self._note_reachable(False, error)
            return False
        finally:
            self._loading.release()
        self._note_reachable(True)
        self._loaded_at = self.right_at = time.monotonic()
        return True

    def _fetch_aside(self) -> dict[str, Any]:
        """By a connection and in a thread of their own, given up after LOAD_SECONDS: a database whose host has gone
        without a word would be waited for until TCP gives up, and the one that takes its place never be asked.
        """
        self._hanging = [each for each in self._hanging if each.is_alive()]
        if len(self._hanging) >= MOST_HANGING:
            raise OperationalError(f"{len(self._hanging)} connections wait for the database")
        done: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
        thread = threading.Thread(target=_fetch_into, args=[done], name="scaling_kit-live-load", daemon=True)
        thread.start()
        try:
            found = done.get(timeout=LOAD_SECONDS)
        except queue.Empty:
            self._hanging.append(thread)
            raise OperationalError(f"The database has not answered within {LOAD_SECONDS:g} s") from None
        thread.join()  # has closed its connection before it said what it found
        if isinstance(found, Exception):
            raise found
        return found

    def tell(self) -> None:
        """Tell the others that something has changed; if Redis is away, as soon as it answers again."""
        self.is_untold = True
        try:
            self._tell()
        except RedisError as error:
            logger.warning("live change not announced, seen by the next poll error=%r", error)

    def _tell(self) -> None:
        version = uuid.uuid4().hex
        self.is_untold = False
        try:
            pipeline = client(Purpose.REQUEST).pipeline(transaction=False)
            pipeline.set(_version_key(), version, ex=VERSION_TTL_SECONDS)
            pipeline.publish(_channel(), version)
            pipeline.execute()
        except RedisError:
            self.is_untold = True
            raise

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self._look()
            except Exception:
                logger.exception("live settings could not be followed, trying again")
                self._stopped.wait(AWAY_SECONDS)
            finally:
                self._tried.set()
        self._unsubscribe()

    def _look(self) -> None:
        try:
            if self.is_untold:
                self._tell()
            # Before the database is read: a change that comes in between has another version.
            version = client(Purpose.REQUEST).get(_version_key())
        except RedisError:
            self._look_without_redis()
            return
        looked_at = time.monotonic()
        if version != self._seen or looked_at - self._loaded_at > RELOAD_SECONDS:
            self._seen = version if self.load() else _UNKNOWN
            if self._seen is _UNKNOWN:
                self._tried.set()
                self._stopped.wait(AWAY_SECONDS)  # no faster: every process tries to connect
        elif self._was_reachable:
            self.right_at = looked_at
        self._tried.set()
        self._wait_for_message()

    def _look_without_redis(self) -> None:
        self._unsubscribe()
        self._seen = _UNKNOWN  # what was told meanwhile, nobody may have heard
        self.load()
        self._tried.set()
        self._stopped.wait(AWAY_SECONDS)

    def _wait_for_message(self) -> None:
        """POLL_SECONDS at most. A message says no more than that it is worth looking."""
        try:
            if self._subscription is None:
                # Not BLOCKING: redis-py connects again in the middle of a read, and would wait for ever for the
                # greeting of a server that accepts and is silent. How long a read waits, it is told here.
                self._subscription = client(Purpose.REQUEST).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                self._subscription.subscribe(_channel())
                return  # what was published before, is in the version
            self._subscription.get_message(timeout=POLL_SECONDS)
        except RedisError:
            self._unsubscribe()
            self._seen = _UNKNOWN
            self._stopped.wait(0.05)

    def _interrupt(self) -> None:
        """End the wait for a message."""
        with suppress(AttributeError, OSError):  # there is no connection, or not any more
            self._subscription.connection._sock.shutdown(socket.SHUT_RDWR)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            try:
                self._subscription.close()
            except (RedisError, OSError):
                logger.debug("live subscription could not be closed")
            self._subscription = None

    def _note_reachable(self, reachable: bool, error: object = None) -> None:
        if reachable != self._was_reachable:
            level = logging.INFO if reachable else logging.WARNING
            logger.log(level, "live settings database_reachable=%s error=%r", reachable, error)
        self._was_reachable = reachable


def _fetch_into(done: queue.SimpleQueue[dict[str, Any] | Exception]) -> None:
    from scaling_kit.cluster import live_store

    try:
        with closing(_own_connection(live_store.database())) as own:
            found = live_store.fetch(own)
    except Exception as error:  # for the thread that waits
        done.put(error)
    else:
        done.put(found)


def _own_connection(alias: str) -> BaseDatabaseWrapper:
    """Gives up to connect after LOAD_SECONDS, where the driver can, so that threads do not gather."""
    own = connections.create_connection(alias)
    options = own.settings_dict["OPTIONS"]
    if own.vendor in ("postgresql", "mysql") and not options.get("pool"):
        limited = {"connect_timeout": round(LOAD_SECONDS), **options}
        own.settings_dict = {**own.settings_dict, "OPTIONS": limited}
    return own


_copy = Copy()
_of_the_parent: list[Copy] = []


def known() -> dict[str, Any]:
    """Every setting, or nothing, if this process is not following yet. Asks nobody."""
    copy = _copy
    return copy.values if copy.is_followed else {}


def values() -> dict[str, Any]:
    """Every setting, after this process has begun to follow."""
    copy = _copy
    if not copy.is_followed:
        copy.start()
    return copy.values


def changed(alias: str) -> None:
    """This process has committed a change: it knows it at once, and the others are told. Never raises."""
    _copy.load(connections[alias])
    _copy.tell()
    if _copy.is_untold:
        _copy.start()  # it tries again


def forget() -> None:
    """Stop following and know nothing, as a new process does. For tests."""
    global _copy
    _copy.stop()
    _copy = Copy()


def _begin_anew_in_child() -> None:
    """The thread is gone, its sockets are the parent's; the values are as good as they were."""
    global _copy
    _of_the_parent.append(_copy)  # kept: when collected, its connections would say goodbye in the parent's name
    _copy = Copy(_copy.values, _copy.right_at)


def _stop_at_exit() -> None:
    """A thread that is killed at the end of the process may hold a lock of redis-py, for which its `__del__` waits."""
    _copy.stop()


os.register_at_fork(after_in_child=_begin_anew_in_child)
atexit.register(_stop_at_exit)


def _version_key() -> str:
    return key("live", "version")


def _channel() -> str:
    return key("live", "changed")
