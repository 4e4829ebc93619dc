"""The websocket of a client: an ASGI application that speaks `kit.v1` (see docs/realtime.md).

application = ProtocolTypeRouter({"http": ..., "websocket": OriginValidator(
    TokenAuthMiddleware(URLRouter([path("ws/", RoomConsumer.as_asgi())])))})
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import close_old_connections
from django.utils.module_loading import import_string

from scaling_kit.realtime import rooms
from scaling_kit.realtime.audience import Member
from scaling_kit.realtime.conf import settings
from scaling_kit.realtime.hub import Hub
from scaling_kit.realtime.messages import MessageError, Request, encode, parse
from scaling_kit.realtime.sockets import CloseCode, Socket
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

SUBPROTOCOL = "kit.v1"
EXPIRY_NOTICE_SECONDS = 30

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RoomConsumer:
    """Lets a client join rooms and sends it their events.

    Reads `scope["user"]` and, where a token was used, `scope["auth"]`: without a user the socket is closed with 4401,
    and so it is when the token expires. Override `can_join` to decide in Python instead of by the setting.
    """

    def __init__(self) -> None:
        self.user: Any = None
        self._socket: Socket
        self._members: dict[str, Member] = {}

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]:
        async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
            await cls(**initkwargs)(scope, receive, send)

        return application

    async def can_join(self, user: Any, room: str) -> bool:
        """May this user join this room? Asks the hook in SCALING_KIT_REALTIME_CAN_JOIN; without one, nobody may."""
        if not settings.CAN_JOIN:
            return False
        hook = import_string(settings.CAN_JOIN)
        if iscoroutinefunction(hook):
            return bool(await hook(user, room))
        return bool(await sync_to_async(_with_good_connections)(hook, user, room))

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
        # Accepted even if it is closed at once: a browser sees the code of a close, not of a refused handshake.
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        self.user = scope.get("user")
        auth = scope.get("auth") or {}
        self._socket = Socket(send, queue_size=settings.QUEUE_SIZE)
        if refusal := _refusal(self.user, auth):
            await self._socket.end(CloseCode.UNAUTHENTICATED, refusal)
            return
        timers = self._watch_expiry(auth.get("expires_at"))
        try:
            await self._socket.run(self._read(receive))
        finally:
            for timer in timers:
                timer.cancel()
            for member in self._members.values():
                Hub.of_this_loop().leave(member)

    def _watch_expiry(self, expires_at: float | None) -> list[asyncio.TimerHandle]:
        if expires_at is None:
            return []
        loop = asyncio.get_running_loop()
        left = max(0.0, expires_at - time.time())
        notice = encode(type="auth.expiring", expires_at=expires_at)
        return [
            loop.call_later(left, self._socket.close, CloseCode.UNAUTHENTICATED, "token_expired"),
            loop.call_later(max(0.0, left - EXPIRY_NOTICE_SECONDS), self._socket.offer, notice),
        ]

    async def _read(self, receive: Receive) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            request = None
            try:
                request = parse(message.get("text"), limit_bytes=settings.MESSAGE_BYTES)
                await self._handle(request)
            except MessageError as error:
                await self._reply(request or Request(type="", id=error.id), "error", code=error.code, detail=str(error))

    async def _handle(self, request: Request) -> None:
        match request.type:
            case "join":
                await self._join(request)
            case "leave":
                await self._leave(request)
            case "ping":
                await self._reply(request, "pong")
            case _:
                raise MessageError("bad_message", "'type' is not one of join, leave, ping")

    async def _join(self, request: Request) -> None:
        await self._check_permission(request.room)
        self._forget(request.room)
        if len(self._members) >= settings.ROOMS_PER_SOCKET:
            raise MessageError("too_many_rooms", f"A socket may be in {settings.ROOMS_PER_SOCKET} rooms")
        try:
            member = await Hub.of_this_loop().join(request.room, self._socket, request.last)
        except (RedisError, TimeoutError) as error:
            raise MessageError("unavailable", "The room cannot be reached now: try again") from error
        self._members[request.room] = member
        at = member.position
        await self._reply(
            request, "joined", room=request.room, epoch=at.epoch, offset=at.offset, recovered=member.recovered
        )
        member.follow()

    async def _leave(self, request: Request) -> None:
        self._forget(request.room)
        await self._reply(request, "left", room=request.room)

    async def _check_permission(self, room: str) -> None:
        try:
            rooms.check_name(room)
            is_allowed = await self.can_join(self.user, room)
        except rooms.UnknownRoomError as error:
            raise MessageError("unknown_room", str(error)) from error
        except Exception as error:
            logger.exception("can_join failed room=%s", room)
            raise MessageError("unavailable", "Whether you may join cannot be found out now: try again") from error
        if not is_allowed:
            raise MessageError("forbidden", f"You may not join {room!r}")

    def _forget(self, room: str) -> None:
        if member := self._members.pop(room, None):
            Hub.of_this_loop().leave(member)

    async def _reply(self, request: Request, type: str, **content: Any) -> None:  # noqa: A002  (as on the wire)
        identity = {} if request.id is None else {"id": request.id}
        await self._socket.put(encode(type=type, **identity, **content))


def _refusal(user: Any, auth: Mapping[str, Any]) -> str:
    """Why the socket must be closed, or an empty string."""
    error = auth.get("error") or ""
    if getattr(user, "is_authenticated", False) and not error:
        return ""
    if settings.ALLOW_ANONYMOUS and error in ("", "token_missing"):
        return ""
    return error or "not_authenticated"


def _with_good_connections(hook: Callable[[Any, str], bool], user: Any, room: str) -> bool:
    close_old_connections()
    try:
        return hook(user, room)
    finally:
        close_old_connections()
