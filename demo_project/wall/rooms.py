"""Who may listen where, and what is said there."""

from typing import Any

from scaling_kit.realtime import publish

WALL = "wall"


def can_join(user: Any, room: str) -> bool:
    """The wall is for everyone who is signed in; a person's own room for that person alone."""
    return room in (WALL, own_room(user.pk))


def own_room(user_id: int) -> str:
    return f"user:{user_id}"


def tell_wall(event: str, **data: Any) -> None:
    publish(WALL, event, data)


def tell_user(user_id: int, event: str, **data: Any) -> None:
    publish(own_room(user_id), event, data)
