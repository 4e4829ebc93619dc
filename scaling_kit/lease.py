"""A lease in Redis: at most one holder at a time by Redis's clock, and a fencing token for what the holder does.

The lease makes one process active; it cannot make what that process does safe, since any process may be paused
for longer than the lease lasts. A write that must not come from a former holder carries `lease.token` or
`lease.epoch` into the script that does the write, as the scheduler's claim does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from redis.client import PubSub

from scaling_kit.redis import Script, key

HOLD = Script.beside(__file__, "lease_hold", idempotent=True)
RELEASE = Script.beside(__file__, "lease_release", idempotent=True)


class NotHeldError(Exception):
    """The lease is held by another owner."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease, by its token."""

    token: str
    epoch: int


class Lease:
    """One candidate's view of a lease.

    `ttl_seconds` is how long a holder that dies blocks the others. A holder renews at about a third of that.
    """

    def __init__(self, name: str, *, client: redis.Redis, ttl_seconds: float = 15.0, token: str = "") -> None:
        self.name = name
        self.client = client
        self.ttl_seconds = ttl_seconds
        self.token = token or secrets.token_hex(16)
        self.epoch = 0
        self._held_until = 0.0
        self._free_at = 0.0
        self._clock_offset = 0.0
        self._releases: PubSub | None = None

    @property
    def holder_key(self) -> str:
        return key("lease", self.name)

    @property
    def epoch_key(self) -> str:
        return key("lease", self.name, "epoch")

    @property
    def released_channel(self) -> str:
        """Where a message is published when the holder gives the lease up, so that others need not wait."""
        return key("lease", self.name, "released")

    def hold(self) -> bool:
        """Acquire the lease, or renew it. True if it is ours now.

        Raises `redis.RedisError` when Redis does not answer; the lease then counts as lost, since nobody can know.
        """
        asked_at = time.monotonic()
        self._held_until = 0.0
        arguments = [self.token, round(self.ttl_seconds * 1000)]
        epoch, now_ms, left_ms = HOLD(self.client, [self.holder_key, self.epoch_key], arguments)
        self._clock_offset = now_ms / 1000 - time.monotonic()
        if epoch:
            # Counted from before the question, so that this deadline is never later than the one in Redis.
            self._held_until = asked_at + self.ttl_seconds
            self.epoch = int(epoch)
        else:
            self._free_at = time.monotonic() + left_ms / 1000
        return self.is_held

    @property
    def is_held(self) -> bool:
        """False as soon as the lease may have run out, by this process's own monotonic clock."""
        return time.monotonic() < self._held_until

    @property
    def free_in_seconds(self) -> float:
        """After a refusal: when the other owner's lease runs out, unless it renews."""
        return max(0.0, self._free_at - time.monotonic())

    def now(self) -> float:
        """Redis's clock in seconds since the epoch, as of the last `hold()` and counted on from there; never fast."""
        return time.monotonic() + self._clock_offset

    def mark_lost(self) -> None:
        """For a holder that a fenced script has refused: `is_held` is False until the next `hold()`."""
        self._held_until = 0.0

    def fetch_holder(self) -> Holder | None:
        """Who holds the lease. Raises `redis.RedisError`."""
        token, epoch = self.client.mget(self.holder_key, self.epoch_key)
        return Holder(token=str(token), epoch=int(epoch)) if token and epoch else None

    def wait_for_release(self, seconds: float) -> bool:
        """Wait until the holder gives the lease up, at most so long. Only a hint: the message may be lost.

        Raises `redis.RedisError`, and subscribes anew at the next call.
        """
        try:
            if self._releases is None:
                self._releases = self.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                self._releases.subscribe(self.released_channel)
            return self._releases.get_message(timeout=seconds) is not None
        except redis.RedisError:
            self._releases = None
            raise

    def release(self) -> bool:
        """Give the lease up and wake the other candidates. False if it was no longer ours."""
        self._held_until = 0.0
        return bool(RELEASE(self.client, [self.holder_key], [self.token, self.released_channel]))

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """`with lease.held():` runs the body as holder, or raises `NotHeldError` without waiting.

        Not renewed meanwhile: the body must end within `ttl_seconds`, or call `hold()` again itself.
        """
        if not self.hold():
            raise NotHeldError(f"The lease {self.name!r} is held by another owner")
        try:
            yield self
        finally:
            self.release()
