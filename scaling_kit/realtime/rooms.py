"""What a room is in Redis: an epoch, an offset that counts its events, and a short history of them.

An offset means something within its epoch only. A room has a new epoch after it was forgotten: unused for
`SCALING_KIT_REALTIME_ROOM_SECONDS`, or lost with the data of Redis.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

import redis.asyncio

from scaling_kit.realtime.conf import settings
from scaling_kit.redis import Script, key

READ = Script.beside(__file__, "read")

# Events read from history at once: with the socket's queue, the most that waits for a slow client.
PAGE_SIZE = 100


class UnknownRoomError(ValueError):
    """There is no such room. A `can_join` hook may raise it, to say more than "forbidden"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A place in a room's sequence of events: after the event `offset` of `epoch`."""

    epoch: str
    offset: int

    def follows(self, other: Position) -> bool:
        return self.offset == other.offset + 1 and self.epoch == other.epoch

    def is_within(self, other: Position) -> bool:
        """Has someone at `other` had everything up to here?"""
        return self.offset <= other.offset and self.epoch == other.epoch


@dataclass(frozen=True, kw_only=True)
class Page:
    """What history holds after a position, oldest first; `recovered` if nothing is missing in between."""

    room_position: Position
    recovered: bool
    events: tuple[tuple[Position, str], ...]

    @property
    def is_last(self) -> bool:
        return not self.events or self.events[-1][0] == self.room_position


def check_name(room: str) -> str:
    """Return the name, or raise `UnknownRoomError`: 1 to 200 of ``A-Z a-z 0-9 _ . : @ / -``."""
    if not re.fullmatch(r"[\w.:@/-]{1,200}", room, re.ASCII):
        raise UnknownRoomError(f"{room[:200]!r} cannot be a room: use 1 to 200 of A-Z a-z 0-9 _ . : @ / -")
    return room


async def read_page(client: redis.asyncio.Redis, room: str, position: Position | None) -> Page:
    """Read up to `PAGE_SIZE` events after `position`; none, and not recovered, without one."""
    last = position or Position(epoch="", offset=0)
    epoch, offset, recovered, flat = await READ.acall(
        client, keys(room), [new_epoch(), settings.ROOM_SECONDS * 1000, last.epoch, last.offset, PAGE_SIZE]
    )
    events = zip(flat[::2], flat[1::2], strict=True)
    return Page(
        room_position=Position(epoch=epoch, offset=offset),
        recovered=bool(recovered),
        events=tuple((Position(epoch=epoch, offset=number), frame) for number, frame in events),
    )


def parse_message(payload: bytes) -> tuple[Position, str]:
    """Take apart what `publish.lua` sent to a channel."""
    epoch, offset, frame = payload.decode().split(":", 2)
    return Position(epoch=epoch, offset=int(offset)), frame


def new_epoch() -> str:
    return secrets.token_hex(6)


def keys(room: str) -> list[str]:
    return [key("realtime", "room", room), key("realtime", "history", room)]


def channel(room: str) -> str:
    return key("realtime", "channel", room)
