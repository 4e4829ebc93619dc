"""Who sweeps the outbox: whoever reads, once in SCALING_KIT_CACHE_OUTBOX_SECONDS for all processes together."""

from __future__ import annotations

import logging
import os
import threading
import time

from scaling_kit.cache import outbox
from scaling_kit.cache.conf import settings
from scaling_kit.cache.tags import key_of, redis_client

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 1.0
"""A request does not wait longer for a database that does not answer."""


def sweep_if_due() -> None:
    """To be called before an entry is believed. Mostly looks at a clock; else asks Redis, and if it is this process's
    turn, waits until the outbox is empty, 1 s at most.

    Raises `redis.RedisError`, and nothing else.
    """
    if (settings.STRICT or settings.OUTBOX) and time.monotonic() >= _turn.due_at:
        _turn.take()


class _Turn:
    """This process's share in the sweeping."""

    def __init__(self) -> None:
        self.due_at = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            wait_seconds = _seconds_until_it_is_ours()
            self.due_at = time.monotonic() + (wait_seconds or settings.OUTBOX_SECONDS)
            # One that still hangs on its database is not joined by a second one.
            if not wait_seconds and not (self._thread and self._thread.is_alive()):
                self._sweep()
        finally:
            self._lock.release()

    def _sweep(self) -> None:
        # In a thread of its own: the caller may be in an event loop, and must not hang with the database.
        self._thread = threading.Thread(target=_sweep_and_log, name="scaling_kit-outbox", daemon=True)
        self._thread.start()
        self._thread.join(LONGEST_WAIT_SECONDS)


def _seconds_until_it_is_ours() -> float:
    """0 if we are the first of this interval. What was committed before that is then seen by our sweep."""
    redis, turn = redis_client(), key_of("sweep")
    if redis.set(turn, os.getpid(), nx=True, px=round(settings.OUTBOX_SECONDS * 1000)):
        return 0.0
    left_ms = int(redis.pttl(turn))
    return max(left_ms, 1) / 1000


def _sweep_and_log() -> None:
    try:
        outbox.sweep()
    except Exception:
        logger.exception("sweep failed; next try in %s s", settings.OUTBOX_SECONDS)


_turn = _Turn()


def _forget_turn_of_the_parent() -> None:
    global _turn
    _turn = _Turn()


os.register_at_fork(after_in_child=_forget_turn_of_the_parent)
