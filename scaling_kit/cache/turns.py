"""One computation at a time: threads of a process wait for each other, processes for the holder of a claim in Redis.

Waiting is bounded. Whoever has waited for nothing (the one who computed was killed, was slow, or had nothing to store)
computes for itself, together with the others who waited.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from scaling_kit.cache import readings
from scaling_kit.cache.conf import settings
from scaling_kit.cache.readings import Address, Reading
from scaling_kit.redis import RedisError

POLL_SECONDS = 0.02


@contextmanager
def take(address: Address, reading: Reading) -> Iterator[Reading]:
    """Wait until nobody else computes this entry, at most SCALING_KIT_CACHE_LEASE_SECONDS.

    Yields a reading made after the wait: either it has a payload now, or the body has to compute one.
    Never raises a Redis error: without Redis nobody waits for other processes.
    """
    deadline = time.monotonic() + settings.LEASE_SECONDS
    with _one_thread(address.digest, deadline) as is_first:
        if not is_first:
            yield _read_again(address, reading)
            return
        with _one_process(address, reading, deadline) as latest:
            yield latest


class _Computation:
    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.has_ended = threading.Event()

    def wait(self, deadline: float) -> None:
        if self.thread != threading.get_ident():  # else it would wait for itself: something cached calls itself
            self.has_ended.wait(max(0.0, deadline - time.monotonic()))


_computing: dict[str, _Computation] = {}
_lock = threading.Lock()


@contextmanager
def _one_thread(digest: str, deadline: float) -> Iterator[bool]:
    """True for the first thread; False for the others, when the first one has ended or the deadline is over."""
    mine = _Computation()
    with _lock:
        first = _computing.setdefault(digest, mine)
    if first is not mine:
        first.wait(deadline)
        yield False
        return
    try:
        yield True
    finally:
        with _lock:
            _computing.pop(digest, None)
        mine.has_ended.set()


@contextmanager
def _one_process(address: Address, reading: Reading, deadline: float) -> Iterator[Reading]:
    token = secrets.token_hex(8)
    if not _claim(address, reading, token):
        yield _wait_for_entry(address, reading, deadline)
        return
    try:
        yield _read_again(address, reading)  # it may have been stored between our reading and our claim
    finally:
        with suppress(RedisError):  # then it expires
            readings.release(address, token)


def _claim(address: Address, reading: Reading, token: str) -> bool:
    with suppress(RedisError):
        return not reading.claimed and readings.claim(address, token, seconds=settings.LEASE_SECONDS)
    return False


def _wait_for_entry(address: Address, reading: Reading, deadline: float) -> Reading:
    with suppress(RedisError):
        while time.monotonic() < deadline:
            reading = readings.read(address)
            if reading.payload is not None or not reading.claimed:
                break
            time.sleep(POLL_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311  (no secret)
    return reading


def _read_again(address: Address, reading: Reading) -> Reading:
    with suppress(RedisError):
        return readings.read(address)
    return reading


def _forget_waiting_of_the_parent() -> None:
    global _lock
    _lock = threading.Lock()
    _computing.clear()


os.register_at_fork(after_in_child=_forget_waiting_of_the_parent)
