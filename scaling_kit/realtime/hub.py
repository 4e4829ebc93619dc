"""One reader per process: hears every room that a socket of this process joined, and hands each message on."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import redis
import redis.asyncio

from scaling_kit.realtime import rooms
from scaling_kit.realtime.audience import Audience, History, Member, Outlet, pause
from scaling_kit.realtime.conf import settings
from scaling_kit.realtime.rooms import Position
from scaling_kit.redis import Purpose, RedisError, async_client

logger = logging.getLogger(__name__)

JOIN_SECONDS = 2.0
# A connection that is silent for so long is pinged; silent for so long again, it is given up.
SILENCE_SECONDS = 5.0


class Hub:
    """The rooms of one event loop. Connected to Redis while it has any."""

    _hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()

    def __init__(self) -> None:
        self._audiences: dict[str, Audience] = {}
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._commands = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._was_connected = True
        self._history = History()

    @classmethod
    def of_this_loop(cls) -> Hub:
        loop = asyncio.get_running_loop()
        if loop not in cls._hubs:
            cls._hubs[loop] = cls()
        return cls._hubs[loop]

    async def join(self, name: str, outlet: Outlet, last: Position | None) -> Member:
        """Make a member at `last` if history reaches back so far, else where the room is now.

        The member hears nothing before `follow()`. Raises `redis.RedisError` or `TimeoutError` if Redis is away.
        """
        member = self._admit(name, outlet)
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._subscribe(member.audience)
                await member.audience.subscribed.wait()
                await member.locate(last)
        except BaseException:
            self.leave(member)
            raise
        return member

    def leave(self, member: Member) -> None:
        member.stop()
        audience = member.audience
        audience.members.discard(member)
        if not audience.members and self._audiences.get(audience.channel) is audience:
            del self._audiences[audience.channel]
            self._in_background(self._unsubscribe(audience) if self._audiences else self._stop())

    def _admit(self, name: str, outlet: Outlet) -> Member:
        channel = rooms.channel(name)
        if channel not in self._audiences:
            self._audiences[channel] = Audience(name, channel, self._history)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_until_cancelled(), name="scaling_kit-hub")
        return Member(self._audiences[channel], outlet)

    async def _subscribe(self, audience: Audience) -> None:
        async with self._commands:
            if self._pubsub is None or audience.is_requested:
                return  # the reader subscribes to every room when it connects
            audience.is_requested = True
            try:
                await self._pubsub.subscribe(audience.channel)
            except RedisError:
                logger.debug("subscribe failed room=%s, the reader will connect again", audience.name)

    async def _unsubscribe(self, audience: Audience) -> None:
        async with self._commands:
            if self._pubsub is None or audience.channel in self._audiences:
                return
            try:
                await self._pubsub.unsubscribe(audience.channel)
            except RedisError:
                logger.debug("unsubscribe failed room=%s, the reader will connect again", audience.name)

    async def _stop(self) -> None:
        async with self._commands:
            if not self._audiences and self._reader is not None:
                self._reader.cancel()
                self._reader = None

    def _in_background(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _read_until_cancelled(self) -> None:
        try:
            while True:
                try:
                    await self._listen()
                except (RedisError, OSError) as error:
                    self._report(connected=False, because=error)
                except Exception:
                    logger.exception("hub failed, it starts again rooms=%d", len(self._audiences))
                await pause()
        finally:
            await self._history.disconnect()

    async def _listen(self) -> None:
        client = async_client(Purpose.BLOCKING, settings.REDIS_URL, decode=False)
        pubsub = _Subscription(client.connection_pool)
        try:
            await self._connect(pubsub)
            self._report(connected=True)
            async for message in _messages(pubsub):
                self._take(message)
        finally:
            if self._pubsub is pubsub:
                self._disconnected()
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()

    async def _connect(self, pubsub: redis.asyncio.client.PubSub) -> None:
        async with self._commands:
            await pubsub.subscribe(*self._audiences)
            self._pubsub = pubsub
            for audience in self._audiences.values():
                audience.is_requested = True

    def _disconnected(self) -> None:
        self._pubsub = None
        for audience in self._audiences.values():
            audience.is_requested = False
            audience.subscribed.clear()

    def _take(self, message: dict[str, Any]) -> None:
        audience = self._audiences.get((message["channel"] or b"").decode())
        if audience is None:  # left a moment ago, or the answer to a ping
            return
        if message["type"] == "message":
            audience.hear(*rooms.parse_message(message["data"]))
        elif message["type"] == "subscribe":
            audience.begin()

    def _report(self, *, connected: bool, because: Exception | None = None) -> None:
        if connected != self._was_connected:
            level = logging.INFO if connected else logging.WARNING
            logger.log(level, "hub connected=%s rooms=%d redis_error=%r", connected, len(self._audiences), because)
        self._was_connected = connected


class _Subscription(redis.asyncio.client.PubSub):
    """A subscription that ends with its connection: redis-py would connect again without a word, past the history."""

    async def on_connect(self, _connection: Any) -> None:
        raise redis.ConnectionError("The subscription's connection was lost")


async def _messages(pubsub: redis.asyncio.client.PubSub) -> AsyncIterator[dict[str, Any]]:
    """What arrives, until the connection is lost or does not answer. Raises `redis.ConnectionError`."""
    is_pinged = False
    while True:
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
        if message is not None:
            is_pinged = False
            yield message
        elif is_pinged:
            raise redis.ConnectionError(f"Redis was silent for {2 * SILENCE_SECONDS} s")
        else:
            is_pinged = True
            await pubsub.ping()
