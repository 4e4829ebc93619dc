"""A lease in Redis: at most one holder at a time by Redis's clock, and a fencing token for what the holder does.

    with Lease("nightly-report").held() as lease:
        Report.objects.filter(pk=1, epoch__lte=lease.epoch).update(text=text, epoch=lease.epoch)

The lease makes one process active; it cannot make what that process does safe, since any process may be paused
for longer than the lease lasts. A write that must not come from a former holder carries `lease.epoch`, the fencing
token, to where it is compared with the last one seen. A script in the same Redis may compare `lease.token` instead.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import redis
from redis.client import PubSub

from scaling_kit.redis import Purpose, Script, key
from scaling_kit.redis import client as client_for

logger = logging.getLogger(__name__)

HOLD = Script.beside(__file__, "lease_hold", idempotent=True)
RELEASE = Script.beside(__file__, "lease_release", idempotent=True)
# Our clock may be that much slower than Redis's: NTP slews each by at most 0.05 %.
CLOCK_RATE_MARGIN = 0.01


class NotHeldError(Exception):
    """The lease is held by another owner."""


class LeaseLostError(Exception):
    """The lease ran out, or was lost with Redis's data, before what it was held for was over."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease, by its token."""

    token: str
    epoch: int

    @property
    def owner(self) -> str:
        """The name that the holder has given itself, if it has."""
        return self.token.rpartition(":")[0]


class Lease:
    """One candidate's view of a lease.

    `ttl_seconds` is how long a holder that dies blocks the others. `owner` is for whoever looks at the lease, and
    need not be unique. `client` must decode its replies; by default it is the process's own for `Purpose.SCRIPT`,
    opened at the first use: a lease may be made at import.

    `hold()`, `renew()` and `release()` of one object are for one thread at a time; `held()` for any number.
    """

    def __init__(
        self,
        name: str,
        *,
        client: redis.Redis | None = None,
        ttl_seconds: float = 15.0,
        owner: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not ttl_seconds > 0:
            raise ValueError(f"Lease {name!r}: ttl_seconds is {ttl_seconds!r}; it must be above 0")
        self.name = name
        self.ttl_seconds = ttl_seconds
        self.owner = owner
        self.epoch = 0
        self._client = client
        self._clock = clock
        self._secret = secrets.token_hex(16)
        self._turn = 0
        self._is_released = False
        self._held_until = -math.inf
        self._free_at = -math.inf
        self._clock_offset = 0.0
        self._releases: PubSub | None = None

    @property
    def client(self) -> redis.Redis:
        return self._client or client_for(Purpose.SCRIPT)

    @property
    def token(self) -> str:
        """Who we are in Redis. Another one in a forked process, and for each `hold()` after a `release()`."""
        return f"{self.owner}:{self._secret}-{os.getpid()}-{self._turn}"

    @property
    def holder_key(self) -> str:
        return key("lease", self.name, "holder")

    @property
    def epoch_key(self) -> str:
        return key("lease", self.name, "epoch")

    @property
    def released_channel(self) -> str:
        """Where a message is published when the holder gives the lease up, so that others need not wait."""
        return key("lease", self.name, "released")

    def hold(self) -> bool:
        """Acquire the lease, or renew it. True if it is ours now; with a later `epoch` if it was not all the time.

        Raises `redis.RedisError` when Redis does not answer; the lease then counts as lost, since nobody can know.
        """
        if self._is_released:  # should the network deliver that release late, it must not end this lease
            self._turn, self._is_released = self._turn + 1, False
        try:
            return self._ask(epoch=0)
        except redis.RedisError:
            self.mark_lost()
            raise

    def renew(self) -> bool:
        """Make the lease last longer if it has been ours since `epoch` began. Never acquires it: False if it is lost,
        or was given up.

        Raises `redis.RedisError` when Redis does not answer; the lease then lasts as long as it did before.
        """
        return self.epoch > 0 and not self._is_released and self._ask(epoch=self.epoch)

    def _ask(self, *, epoch: int) -> bool:
        """Renew the lease of that epoch; with 0, of any, or acquire it."""
        asked_at = self._clock()
        arguments = [self.token, math.ceil(self.ttl_seconds * 1000), epoch]
        epoch, now_ms, left_ms = HOLD(self.client, [self.holder_key, self.epoch_key], arguments)
        self._clock_offset = now_ms / 1000 - self._clock()
        if epoch:
            # Counted from before the question, so that this deadline is never later than the one in Redis.
            self._held_until = asked_at + self.ttl_seconds * (1 - CLOCK_RATE_MARGIN)
            self.epoch = int(epoch)
        else:
            self.mark_lost()
            self._free_at = self._clock() + left_ms / 1000
        return self.is_held

    @property
    def is_held(self) -> bool:
        """False as soon as the lease may have run out, by this process's own monotonic clock."""
        return self._clock() < self._held_until

    def check(self) -> None:
        """Raise `LeaseLostError` unless `is_held`. Asks nobody, so it may be called often."""
        if not self.is_held:
            raise LeaseLostError(f"The lease {self.name!r} of epoch {self.epoch} is not ours any more")

    @property
    def free_in_seconds(self) -> float:
        """After a refusal: when the other owner's lease runs out, unless it renews."""
        return max(0.0, self._free_at - self._clock())

    def now(self) -> float:
        """Redis's clock in seconds since the epoch, as of the last `hold()` and counted on from there; never fast."""
        return self._clock() + self._clock_offset

    def mark_lost(self) -> None:
        """For a holder that a fenced script has refused: `is_held` is False until the next `hold()`."""
        self._held_until = -math.inf

    def fetch_holder(self) -> Holder | None:
        """Who holds the lease. Raises `redis.RedisError`."""
        token, epoch = self.client.mget(self.holder_key, self.epoch_key)
        return Holder(token=str(token), epoch=int(epoch)) if token and epoch else None

    def wait_for_release(self, seconds: float) -> bool:
        """Wait until the holder gives the lease up, at most so long. Only a hint: the message may be lost.

        The first call returns True as soon as it has subscribed: the lease may have been released just before.
        Raises `redis.RedisError`, and subscribes anew at the next call.
        """
        try:
            if self._releases is None:
                self._releases = self.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                self._releases.subscribe(self.released_channel)
                self._releases.get_message(timeout=seconds)  # that we are subscribed
                return True
            return self._releases.get_message(timeout=seconds) is not None
        except redis.RedisError:
            self._unsubscribe()
            raise

    def release(self) -> bool:
        """Give the lease up and wake the other candidates. False if it was no longer ours.

        Raises `redis.RedisError` when Redis does not answer; the lease then runs out by itself.
        """
        self.mark_lost()
        self._is_released = True
        return bool(RELEASE(self.client, [self.holder_key], [self.token, self.released_channel]))

    @contextmanager
    def held(self, *, wait_seconds: float = 0.0, renewed: bool = False) -> Iterator[Lease]:
        """`with lease.held() as held:` runs the body as holder, or raises `NotHeldError`.

        Each `with` is an owner of its own, in whatever thread or process: nested in itself it is refused.
        `wait_seconds`: how long to wait for the lease. Who waits longest has no right to be the next.
        `renewed`: a thread renews the lease while the body runs; without it the body must end within
        `ttl_seconds`, or call `renew()`. In any case the body must see for itself whether it has lost the lease,
        by `is_held` or `check()`; nothing interrupts it.

        Raises `redis.RedisError` when Redis does not answer at the start. At the end a lease that cannot be
        released runs out by itself.
        """
        lease = Lease(self.name, client=self._client, ttl_seconds=self.ttl_seconds, owner=self.owner, clock=self._clock)
        if not lease._hold_within(wait_seconds):
            raise NotHeldError(f"The lease {self.name!r} is held by another owner")
        try:
            with lease._renewed() if renewed else nullcontext():
                yield lease
        finally:
            lease._give_up()

    def _hold_within(self, seconds: float) -> bool:
        give_up_at = self._clock() + seconds
        try:
            while not self.hold():
                left = give_up_at - self._clock()
                if left <= 0:
                    return False
                self.wait_for_release(min(left, max(0.01, self.free_in_seconds)))
        finally:
            self._unsubscribe()
        return True

    @contextmanager
    def _renewed(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=[ended], name=f"lease {self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _keep(self, ended: threading.Event) -> None:
        """Renew until told that it is over: each lease has three chances to be renewed."""
        while self.is_held and not ended.wait(self.ttl_seconds / 4):
            with suppress(redis.RedisError):
                self.renew()

    def _give_up(self) -> None:
        if not self.is_held:
            logger.warning("lease lost while in use name=%s epoch=%s", self.name, self.epoch)
            return  # nothing is left to be released
        try:
            self.release()
        except redis.RedisError as error:
            logger.warning("lease not released, it runs out by itself name=%s error=%r", self.name, error)

    def _unsubscribe(self) -> None:
        if self._releases is not None:
            self._releases.close()
            self._releases = None
