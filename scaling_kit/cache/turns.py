"""One computation at a time: threads of a process wait for each other, processes for the holder of a claim in Redis.

Waiting is bounded. When a computation fails, or lasts for half of SCALING_KIT_CACHE_LEASE_SECONDS (it hangs, or its
process has died), the next one who waits takes its turn; when it has nothing to store, all go at once, and the next
ones do not queue for a while.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from scaling_kit.cache import readings
from scaling_kit.cache.conf import settings
from scaling_kit.cache.readings import Address, Reading
from scaling_kit.redis import RedisError

POLL_SECONDS = 0.02
# For how long nobody queues for an address that had nothing to store.
OPEN_SECONDS = 10.0
MOST_OPEN = 1000


@dataclass(frozen=True, kw_only=True)
class Turn:
    """`reading`, made after the wait, has a payload now, or the holder of the turn computes one.

    Not `ours`: somebody else is computing, and we were not to wait.
    """

    reading: Reading
    ours: bool = True


@contextmanager
def take(address: Address, reading: Reading, *, wait: bool = True) -> Iterator[Turn]:
    """Wait until nobody else computes this entry, at most SCALING_KIT_CACHE_LEASE_SECONDS; or do not wait at all.

    Never raises a Redis error: without Redis nobody waits for other processes.
    """
    if _is_open(address):
        yield Turn(reading=reading)
        return
    place = _Place(address)
    try:
        yield place.queue(reading) if wait else place.try_to_be_first(reading)
    finally:
        place.leave()


def open_to_all(address: Address) -> None:
    """There was nothing to store: for a while nobody waits for anybody here."""
    with _lock:
        _open[address.digest] = time.monotonic() + OPEN_SECONDS
        while len(_open) > MOST_OPEN:
            _open.popitem(last=False)


def _is_open(address: Address) -> bool:
    return _open.get(address.digest, 0.0) > time.monotonic()


class _Place:
    """In the line of those who want to compute an entry: first among the threads, then among the processes."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._mine = _Computation()
        self._first = self._mine
        self._token = ""

    def queue(self, reading: Reading) -> Turn:
        deadline = time.monotonic() + settings.LEASE_SECONDS
        while not self._is_first_thread():
            self._first.wait(min(deadline, self._first.turn_ends_at))
            reading = self._read_again(reading)
            if reading.payload is not None or self._has_waited_enough(deadline):
                return Turn(reading=reading)
        while not self._claim(reading):
            reading = self._wait_for_entry(reading, deadline)
            if reading.payload is not None or time.monotonic() >= deadline:
                return Turn(reading=reading)
        return Turn(reading=self._read_again(reading))  # it may have been stored between our reading and our claim

    def try_to_be_first(self, reading: Reading) -> Turn:
        if self._is_first_thread() and self._claim(reading):
            return Turn(reading=self._read_again(reading))
        return Turn(reading=reading, ours=False)

    def leave(self) -> None:
        if self._first is self._mine:
            with _lock:
                if _computing.get(self._address.digest) is self._mine:
                    del _computing[self._address.digest]
            self._mine.has_ended.set()
        if self._token:
            with suppress(RedisError):  # then it expires
                readings.release(self._address, self._token)

    def _is_first_thread(self) -> bool:
        with _lock:
            first = _computing.get(self._address.digest)
            if first is None or (time.monotonic() >= first.turn_ends_at and not first.is_of_this_thread()):
                first = _computing[self._address.digest] = self._mine
            self._first = first
        return self._first is self._mine

    def _has_waited_enough(self, deadline: float) -> bool:
        return time.monotonic() >= deadline or _is_open(self._address) or self._first.is_of_this_thread()

    def _claim(self, reading: Reading) -> bool:
        """Also without Redis, where there is no one to wait for."""
        token = secrets.token_hex(8)
        try:
            claimed = not reading.claimed and readings.claim(self._address, token, seconds=_turn_seconds())
        except RedisError:
            return True
        if claimed:
            self._token = token
        return claimed

    def _wait_for_entry(self, reading: Reading, deadline: float) -> Reading:
        with suppress(RedisError):
            while readings.is_claimed(self._address) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311  (no secret)
            return readings.read(self._address, near=False)
        return reading

    def _read_again(self, reading: Reading) -> Reading:
        with suppress(RedisError):
            return readings.read(self._address, near=False)
        return reading


class _Computation:
    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.has_ended = threading.Event()
        self.turn_ends_at = time.monotonic() + _turn_seconds()

    def is_of_this_thread(self) -> bool:
        return self._thread == threading.get_ident()

    def wait(self, deadline: float) -> None:
        if not self.is_of_this_thread():  # else it would wait for itself: something cached calls itself
            self.has_ended.wait(max(0.0, deadline - time.monotonic()))


def _turn_seconds() -> float:
    return settings.LEASE_SECONDS / 2


_computing: dict[str, _Computation] = {}
_open: OrderedDict[str, float] = OrderedDict()
_lock = threading.Lock()


def _forget_waiting_of_the_parent() -> None:
    global _lock
    _lock = threading.Lock()
    _computing.clear()


os.register_at_fork(after_in_child=_forget_waiting_of_the_parent)
