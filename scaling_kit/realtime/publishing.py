"""Publishing to a room, from anywhere: a view, a worker, a scheduler, a shell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from scaling_kit import members
from scaling_kit.realtime import rooms
from scaling_kit.realtime.conf import settings
from scaling_kit.redis import CircuitOpenError, Purpose, RedisError, Script, client

logger = logging.getLogger(__name__)

PUBLISH = Script.beside(__file__, "publish")
ATTEMPTS = 3
RETRY_SECONDS = 0.25


class EventTooLargeError(ValueError):
    """The event is larger than SCALING_KIT_REALTIME_MESSAGE_BYTES."""


def publish(room: str, event: str, data: Any, *, on_commit: bool = True) -> None:
    """Send an event to everyone in a room, when the transaction of the default database commits, or now without one.

    `data` is anything Django's JSON encoder takes. Raises `ValueError` or `TypeError` at once for a bad room name,
    for data that is not JSON, or too much of it.

    Never waits long for Redis and never raises because of it: an event that Redis does not take is tried again from
    a thread of this process, in order, for `SCALING_KIT_REALTIME_OUTBOX_SECONDS`; a process that ends before loses
    it. With `on_commit=False` it is sent now, in up to three attempts, and `redis.RedisError` is raised if they
    fail: for jobs, which can be run again. A repeated attempt never makes a second event.
    """
    message = Message(room=rooms.check_name(room), start=_start_of_frame(room, event, data))
    if not on_commit:
        _send_now(message)
    elif connection.in_atomic_block:
        transaction.on_commit(partial(_outbox.deliver, message))
    else:  # without asking transaction.on_commit, which would connect to the database first
        _outbox.deliver(message)


async def apublish(room: str, event: str, data: Any) -> None:
    """`publish(..., on_commit=False)` for async code, which has no transactions: now, or `redis.RedisError`."""
    await asyncio.to_thread(publish, room, event, data, on_commit=False)


@dataclass(kw_only=True, eq=False)
class Message:
    """An event on its way to Redis."""

    room: str
    start: str
    """The frame as clients get it, up to the offset, which the script knows."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    was_tried: bool = False
    made_at: float = field(default_factory=time.monotonic)

    def send(self, redis: redis.Redis) -> None:
        """Publish, unless an earlier attempt did. Raises `redis.RedisError`."""
        is_repeat, self.was_tried = self.was_tried, True
        arguments = [
            *(rooms.channel(self.room), self.id, int(is_repeat), rooms.new_epoch(), self.start),
            *(settings.HISTORY_SIZE, settings.HISTORY_SECONDS * 1000, settings.ROOM_SECONDS * 1000),
        ]
        PUBLISH(redis, rooms.keys(self.room), arguments)
        members.count("realtime.published")


class Outbox:
    """Sends at once what it can; what Redis does not take waits, in order, for a thread that tries again."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def deliver(self, message: Message) -> None:
        if self._waiting or not _try_to_send(message, Purpose.REQUEST):
            self._keep(message)

    def _keep(self, message: Message) -> None:
        with self._lock:
            self._waiting.append(message)
            if len(self._waiting) > settings.OUTBOX_SIZE:
                _lose(self._waiting.popleft(), "outbox_full")
            if self._thread is None:
                self._thread = threading.Thread(target=self._empty, name="scaling_kit-outbox", daemon=True)
                self._thread.start()

    def _empty(self) -> None:
        while message := self._first():
            if _try_to_send(message, Purpose.SCRIPT):
                self._drop(message)
            elif time.monotonic() - message.made_at > settings.OUTBOX_SECONDS:
                self._drop(message)
                _lose(message, "redis_away")
            else:
                time.sleep(RETRY_SECONDS)

    def _first(self) -> Message | None:
        with self._lock:
            if self._waiting:
                return self._waiting[0]
            self._thread = None
            return None

    def _drop(self, message: Message) -> None:
        with self._lock:
            if self._waiting and self._waiting[0] is message:
                self._waiting.popleft()


_outbox = Outbox()


def _start_anew_after_fork() -> None:
    global _outbox
    _outbox = Outbox()  # the parent's thread sends what waits in the parent


os.register_at_fork(after_in_child=_start_anew_after_fork)


def _start_of_frame(room: str, event: str, data: Any) -> str:
    content = {"type": "event", "room": room, "event": event, "data": data}
    frame = json.dumps(content, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(frame.encode())
    if size > settings.MESSAGE_BYTES:
        raise EventTooLargeError(
            f"Event {event!r} for room {room!r} has {size} bytes, more than SCALING_KIT_REALTIME_MESSAGE_BYTES "
            f"({settings.MESSAGE_BYTES}): publish an id, and let clients fetch the rest"
        )
    return frame.removesuffix("}")


def _send_now(message: Message) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            message.send(client(Purpose.SCRIPT, settings.REDIS_URL))
        except RedisError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return


def _try_to_send(message: Message, purpose: Purpose) -> bool:
    try:
        message.send(client(purpose, settings.REDIS_URL))
    except CircuitOpenError:
        return False
    except RedisError as error:
        logger.warning("publish delayed room=%s id=%s redis_error=%r", message.room, message.id, error)
        return False
    return True


def _lose(message: Message, why: str) -> None:
    members.count("realtime.lost")
    logger.error("publish lost room=%s id=%s reason=%s", message.room, message.id, why)
