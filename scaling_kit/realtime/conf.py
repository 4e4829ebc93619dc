from __future__ import annotations

from collections.abc import Sequence

from scaling_kit.conf import Settings


class RealtimeSettings(Settings, prefix="SCALING_KIT_REALTIME_"):
    # Empty: the hall's SCALING_KIT_REDIS_URL.
    REDIS_URL: str = ""
    # Dotted path of `(user, room) -> bool`, sync or async: who may join which room. Empty: nobody any.
    CAN_JOIN: str = ""
    # Origins besides the site's own whose pages may connect: "https://app.example", "http://localhost:5173".
    ORIGINS: Sequence[str] = ()
    # Accept sockets without a user; CAN_JOIN still decides about each room.
    ALLOW_ANONYMOUS: bool = False
    # How far back a client that returns can recover: about so many events of a room, and at most so long.
    HISTORY_SIZE: int = 1000
    HISTORY_SECONDS: int = 600
    # How long a room in which nothing happens keeps its epoch and offset.
    ROOM_SECONDS: int = 86_400
    # Frames that wait for one socket; one that reads too slowly for them is served from history instead.
    QUEUE_SIZE: int = 100
    ROOMS_PER_SOCKET: int = 100
    # The largest message from a client, and the largest event, in bytes of UTF-8.
    MESSAGE_BYTES: int = 65_536
    # Events that `publish` keeps in memory while Redis is away: so many, and so long.
    OUTBOX_SIZE: int = 1000
    OUTBOX_SECONDS: float = 60.0


settings = RealtimeSettings()
