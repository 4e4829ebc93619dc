"""What clients say, checked: `{"type": "join", "id": 1, "room": "wall", "last": {"epoch": "..", "offset": 12}}`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scaling_kit.realtime.rooms import Position

MAX_OFFSET = 2**53  # the largest whole number of JavaScript


class MessageError(Exception):
    """A message that is refused. The client gets `code` and the text; the socket stays open."""

    def __init__(self, code: str, detail: str, *, id: int | str | None = None) -> None:  # noqa: A002  (as on the wire)
        super().__init__(detail)
        self.code = code
        self.id = id


@dataclass(frozen=True, kw_only=True)
class Request:
    """A well-formed message of a client. `id`, if any, comes back with the answer."""

    type: str
    id: int | str | None = None
    room: str = ""
    last: Position | None = None


def parse(text: str | None, *, limit_bytes: int) -> Request:
    """Read a message; raise `MessageError` with code `bad_json`, `bad_message` or `too_large`."""
    if text is None:
        raise MessageError("bad_message", "Send text frames, not binary ones")
    if len(text) > limit_bytes or len(text.encode()) > limit_bytes:
        raise MessageError("too_large", f"A message may have {limit_bytes} bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError("bad_json", "The message is not JSON") from error
    if not isinstance(message, dict):
        raise MessageError("bad_message", "The message is not a JSON object")
    identity = message.get("id")
    if not _is_identity(identity):
        raise MessageError("bad_message", "'id' is neither a whole number from 0 nor a string of up to 100 characters")
    try:
        return Request(type=str(message.get("type")), id=identity, room=_room(message), last=_last(message))
    except MessageError as error:
        raise MessageError(error.code, str(error), id=identity) from error


def encode(**content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _is_identity(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 100
    return value is None or _is_count(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OFFSET


def _room(message: dict[str, Any]) -> str:
    room = message.get("room", "")
    if not isinstance(room, str):
        raise MessageError("bad_message", "'room' is not a string")
    return room


def _last(message: dict[str, Any]) -> Position | None:
    match message.get("last"):
        case None:
            return None
        case {"epoch": str(epoch), "offset": offset} if _is_count(offset) and len(epoch) <= 100 and epoch.isascii():
            return Position(epoch=epoch, offset=offset)
        case _:
            raise MessageError("bad_message", "'last' is not null or {epoch: string, offset: whole number}")
