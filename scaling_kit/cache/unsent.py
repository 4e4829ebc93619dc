"""Bumps that Redis did not take: kept in memory, and sent as soon as it answers.

They are lost if this process is killed before that, unless there is a row in the outbox. While any are waiting, this
process serves nothing from the cache.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable

from scaling_kit import members
from scaling_kit.cache import signals, tags
from scaling_kit.redis import BREAKER_SECONDS, RedisError

logger = logging.getLogger(__name__)

MOST = 1000
"""With more tags than this waiting, everything is invalidated instead."""


def bump(names: Iterable[str], *, release: Iterable[str] = ()) -> None:
    """Invalidate, and take the marks with these tokens away, now or as soon as Redis answers.

    Never raises because of Redis, never waits longer than a request may.
    """
    wanted, tokens = set(names), set(release)
    if not wanted:
        return
    members.count("cache.invalidation")
    signals.invalidated.send_robust(sender=None, tags=wanted)
    try:
        tags.bump(wanted, release=tokens)
    except RedisError as error:
        logger.warning("bump unsent tags=%d error=%r", len(wanted), str(error))
        _queue.add(wanted, tokens)
    except BaseException:  # a signal, in the midst of it
        _queue.add(wanted, tokens)
        raise


def waiting() -> int:
    """How many tags of this process are not yet known to Redis."""
    return len(_queue)


class _Queue:
    """The tags to send, and the thread that sends them, which lives only while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tags: set[str] = set()
        self._sending: set[str] = set()
        self._tokens: set[str] = set()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._tags) + len(self._sending)

    def add(self, names: set[str], tokens: set[str]) -> None:
        with self._lock:
            self._put(names, tokens)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="scaling_kit-unsent-bumps", daemon=True)
                self._thread.start()

    def send(self) -> bool:
        """Try once. A tag that is bumped anew meanwhile is kept for the next time."""
        with self._lock:
            self._sending, self._tags = self._sending | self._tags, set()
            tokens, self._tokens = self._tokens, set()
        try:
            if self._sending:
                tags.bump(self._sending, release=tokens)
        except RedisError:
            with self._lock:
                self._put(self._sending, tokens)
            return False
        finally:
            self._sending = set()
        return True

    def _put(self, names: set[str], tokens: set[str]) -> None:
        self._tags |= names
        self._tokens |= tokens
        if len(self._tags) > MOST:
            self._tags, self._tokens = {tags.EPOCH}, set()  # the marks end at their deadline

    def _send_all(self) -> None:
        while not self._is_done():
            time.sleep(BREAKER_SECONDS)
            if self.send():
                logger.info("bumps sent after Redis was away")

    def _is_done(self) -> bool:
        with self._lock:
            if not self._tags:
                self._thread = None
            return self._thread is None


_queue = _Queue()


def _forget_queue_of_the_parent() -> None:
    global _queue
    _queue = _Queue()  # the parent sends its own


os.register_at_fork(after_in_child=_forget_queue_of_the_parent)
atexit.register(lambda: _queue.send())
