from typing import Any

from scaling_kit.realtime.rooms import UnknownRoomError


def can_join(user: Any, room: str) -> bool:
    if room.startswith("nowhere"):
        raise UnknownRoomError(f"There is no {room!r}")
    if room.startswith("broken"):
        raise ZeroDivisionError
    return not room.startswith("private")


async def can_join_async(user: Any, room: str) -> bool:
    return room == "wall"
