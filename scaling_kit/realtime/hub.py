"""One reader per process: hears every room that a socket of this process joined, and hands each message on.

How nothing is lost: a member is live while each message it hears is the next one. Whatever breaks the sequence (it
has just joined, Redis was away, its socket reads too slowly) makes it fall behind, and then it reads history from
its own position until nothing was published meanwhile. History is read after the subscription is known to stand,
and what a member has had already is dropped by its offset, so an event comes once and in order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import weakref
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, Protocol

import redis
import redis.asyncio

from scaling_kit import members
from scaling_kit.realtime import rooms
from scaling_kit.realtime.conf import settings
from scaling_kit.realtime.rooms import Page, Position
from scaling_kit.redis import Purpose, RedisError, async_client

logger = logging.getLogger(__name__)

JOIN_SECONDS = 2.0
# A connection that is silent for so long is pinged; silent for so long again, it is given up.
SILENCE_SECONDS = 5.0
READERS = 8


class Outlet(Protocol):
    """Where a member's frames go."""

    def offer(self, frame: str) -> bool:
        """Queue a frame, unless the queue is full."""

    async def put(self, frame: str) -> None:
        """Queue a frame when there is room."""


class Hub:
    """The rooms of one event loop. Connected to Redis while it has any."""

    _hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
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
                await self._subscribe(member.room)
                await member.room.subscribed.wait()
                await member.locate(last)
        except BaseException:
            self.leave(member)
            raise
        return member

    def leave(self, member: Member) -> None:
        member.stop()
        room = member.room
        room.members.discard(member)
        if not room.members and self._rooms.get(room.channel) is room:
            del self._rooms[room.channel]
            self._in_background(self._unsubscribe(room) if self._rooms else self._stop())

    def _admit(self, name: str, outlet: Outlet) -> Member:
        channel = rooms.channel(name)
        if channel not in self._rooms:
            self._rooms[channel] = Room(name, channel, self._history)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_until_cancelled(), name="scaling_kit-hub")
        return Member(self._rooms[channel], outlet)

    async def _subscribe(self, room: Room) -> None:
        async with self._commands:
            if self._pubsub is None or room.is_requested:
                return  # the reader subscribes to every room when it connects
            room.is_requested = True
            try:
                await self._pubsub.subscribe(room.channel)
            except RedisError:
                logger.debug("subscribe failed room=%s, the reader will connect again", room.name)

    async def _unsubscribe(self, room: Room) -> None:
        async with self._commands:
            if self._pubsub is None or room.channel in self._rooms:
                return
            try:
                await self._pubsub.unsubscribe(room.channel)
            except RedisError:
                logger.debug("unsubscribe failed room=%s, the reader will connect again", room.name)

    async def _stop(self) -> None:
        async with self._commands:
            if not self._rooms and self._reader is not None:
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
                    logger.exception("hub failed, it starts again rooms=%d", len(self._rooms))
                await _pause()
        finally:
            await self._history.disconnect()

    async def _listen(self) -> None:
        client = async_client(Purpose.BLOCKING, settings.REDIS_URL, decode=False)
        pubsub = _Subscription(client.connection_pool)
        try:
            await self._connect(pubsub)
            self._report(connected=True)
            async for message in _messages(pubsub):
                await self._take(message)
        finally:
            if self._pubsub is pubsub:
                self._disconnected()
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()

    async def _connect(self, pubsub: redis.asyncio.client.PubSub) -> None:
        async with self._commands:
            await pubsub.subscribe(*self._rooms)
            self._pubsub = pubsub
            for room in self._rooms.values():
                room.is_requested = True

    def _disconnected(self) -> None:
        self._pubsub = None
        for room in self._rooms.values():
            room.is_requested = False
            room.subscribed.clear()

    async def _take(self, message: dict[str, Any]) -> None:
        room = self._rooms.get((message["channel"] or b"").decode())
        if room is None:  # left a moment ago, or the answer to a ping
            return
        if message["type"] == "message":
            room.hear(*rooms.parse_message(message["data"]))
        elif message["type"] == "subscribe":
            room.begin()

    def _report(self, *, connected: bool, because: Exception | None = None) -> None:
        if connected != self._was_connected:
            level = logging.INFO if connected else logging.WARNING
            logger.log(level, "hub connected=%s rooms=%d redis_error=%r", connected, len(self._rooms), because)
        self._was_connected = connected


class History:
    """Reads the history of rooms, of a few at a time: after Redis was away, all rooms ask at once."""

    def __init__(self) -> None:
        self._client = async_client(Purpose.SCRIPT, settings.REDIS_URL)
        self._turns = asyncio.Semaphore(READERS)

    async def read(self, room: str, position: Position | None) -> Page:
        """Read a page after a position. Raises `redis.RedisError`."""
        async with self._turns:
            return await rooms.read_page(self._client, room, position)

    async def disconnect(self) -> None:
        await self._client.connection_pool.disconnect(inuse_connections=False)


class Room:
    """The members that one process has in a room."""

    def __init__(self, name: str, channel: str, history: History) -> None:
        self.name = name
        self.channel = channel
        self.members: set[Member] = set()
        self.is_requested = False
        self.subscribed = asyncio.Event()
        self._history = history
        self._reads: dict[Position | None, asyncio.Task[Page]] = {}

    def begin(self) -> None:
        """The subscription stands, perhaps again: whatever was published before must be read."""
        self._reads.clear()
        self.subscribed.set()
        for member in self.members:
            member.fall_behind()

    def hear(self, position: Position, frame: str) -> None:
        self._reads.clear()
        delivered = sum([member.hear(position, frame) for member in self.members])
        members.count("realtime.delivered", delivered)

    async def read(self, position: Position | None) -> Page:
        """Read history. Members that ask for the same while it is on its way share one reading.

        A reading begun before the last message was heard may lack it, and is shared no more.
        """
        if position not in self._reads:
            self._reads[position] = reading = asyncio.create_task(self._history.read(self.name, position))
            reading.add_done_callback(partial(self._forget, position))
        return await asyncio.shield(self._reads[position])

    def _forget(self, position: Position | None, reading: asyncio.Task[Page]) -> None:
        if self._reads.get(position) is reading:
            del self._reads[position]
        if not reading.cancelled():
            reading.exception()  # those who wait for it get it; perhaps nobody waits any more


class Member:
    """One socket in one room: how far it has come, and whether it hears live or reads history."""

    __slots__ = ("_is_at_end", "_is_live", "_missed", "_outlet", "_task", "position", "recovered", "room")

    def __init__(self, room: Room, outlet: Outlet) -> None:
        self.room = room
        self.position = Position(epoch="", offset=0)
        self.recovered = False
        self._outlet = outlet
        self._is_at_end = False
        self._is_live = False
        self._missed = False
        self._task: asyncio.Task[None] | None = None
        room.members.add(self)

    async def locate(self, last: Position | None) -> None:
        """Find out where to begin: at `last` if history reaches back so far."""
        self._missed = False
        page = await self.room.read(last)
        self.recovered = page.recovered
        self.position = last if page.recovered and last is not None else page.room_position
        self._is_at_end = self.position == page.room_position

    def follow(self) -> None:
        """Begin to send: first what history holds after the position, then live."""
        self._is_live = self._is_at_end and not self._missed
        if not self._is_live:
            self._task = asyncio.create_task(self._catch_up())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def hear(self, position: Position, frame: str) -> bool:
        """Take a live message; say whether it was handed on."""
        if self._is_live and position.follows(self.position) and self._outlet.offer(frame):
            self.position = position
            return True
        if not position.is_within(self.position):
            self.fall_behind()
        return False

    def fall_behind(self) -> None:
        """Something may be missing: read it from history."""
        self._missed = True
        if self._is_live:
            self.follow()

    async def _catch_up(self) -> None:
        while not self._is_live:
            self._missed = False
            try:
                page = await self.room.read(self.position)
                await self._hand_on(page)
                self._is_live = page.is_last and not self._missed
            except (RedisError, OSError):
                await _pause()
            except Exception:  # a member that gave up would stay connected and never hear again
                logger.exception("catching up failed, it is tried again room=%s", self.room.name)
                await _pause()

    async def _hand_on(self, page: Page) -> None:
        if not page.recovered:
            self.position = page.room_position
            await self._outlet.put(gap_frame(self.room.name, self.position))
        for position, frame in page.events:
            await self._outlet.put(frame)
            self.position = position
        members.count("realtime.delivered", len(page.events))


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


async def _pause() -> None:
    """Wait before the next attempt, and not as long as the other processes that lost the same server."""
    await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311  (no secret)


def gap_frame(room: str, position: Position) -> str:
    return json.dumps({"type": "gap", "room": room, "epoch": position.epoch, "offset": position.offset})
