"""Who in this process is in a room, and how each of them hears everything once and in order.

A member is live while each message it hears is the next one. Whatever breaks the sequence (it has just joined, Redis
was away, its socket reads too slowly) makes it fall behind, and then it reads history from its own position until
nothing was published meanwhile. History is read after the subscription is known to stand, and what a member has had
already is dropped by its offset.
"""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import Protocol

from scaling_kit import members
from scaling_kit.realtime import rooms
from scaling_kit.realtime.conf import settings
from scaling_kit.realtime.messages import encode
from scaling_kit.realtime.rooms import Page, Position
from scaling_kit.redis import Purpose, RedisError, async_client

logger = logging.getLogger(__name__)

READERS = 8


class Outlet(Protocol):
    """Where a member's frames go."""

    def offer(self, frame: str) -> bool:
        """Queue a frame, unless the queue is full."""

    async def put(self, frame: str) -> None:
        """Queue a frame when there is room."""


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


class Audience:
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

    __slots__ = ("_is_at_end", "_is_live", "_missed", "_outlet", "_task", "audience", "position", "recovered")

    def __init__(self, audience: Audience, outlet: Outlet) -> None:
        self.audience = audience
        self.position = Position(epoch="", offset=0)
        self.recovered = False
        self._outlet = outlet
        self._is_at_end = False
        self._is_live = False
        self._missed = False
        self._task: asyncio.Task[None] | None = None
        audience.members.add(self)

    async def locate(self, last: Position | None) -> None:
        """Find out where to begin: at `last` if history reaches back so far."""
        self._missed = False
        page = await self.audience.read(last)
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
                page = await self.audience.read(self.position)
                await self._hand_on(page)
                self._is_live = page.is_last and not self._missed
            except (RedisError, OSError):
                await pause()
            except Exception:  # a member that gave up would stay connected and never hear again
                logger.exception("catching up failed, it is tried again room=%s", self.audience.name)
                await pause()

    async def _hand_on(self, page: Page) -> None:
        if not page.recovered:
            self.position = page.room_position
            at = self.position
            await self._outlet.put(encode(type="gap", room=self.audience.name, epoch=at.epoch, offset=at.offset))
        for position, frame in page.events:
            await self._outlet.put(frame)
            self.position = position
        members.count("realtime.delivered", len(page.events))


async def pause() -> None:
    """Wait before the next attempt, and not as long as the other processes that lost the same server."""
    await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311  (no secret)
