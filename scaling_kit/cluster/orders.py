"""Orders for the runner of another host, through Redis: what control.py does on this one.

    give("web-2", {"verb": "scale", "names": {"web": "+1"}})

Whoever may write to this Redis may give orders.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis.asyncio

from scaling_kit import members
from scaling_kit.cluster.control import Answer
from scaling_kit.redis import Purpose, RedisError, async_client, client, key

ANSWER_TTL_SECONDS = 60
LISTEN_SECONDS = 5
RETRY_SECONDS = 1.0


class NoAnswerError(Exception):
    """No runner of that host has answered in time."""


def give(host: str, order: dict[str, Any], *, wait_seconds: float = 30.0) -> dict[str, Any]:
    """Return the answer of the runner of `host`. Raises `NoAnswerError` and `redis.RedisError`.

    An order that nobody takes within `wait_seconds` is never carried out; one that takes longer may be.
    """
    blocking = client(Purpose.BLOCKING)
    order_id = send(host, order, within_seconds=wait_seconds)
    found: Any = blocking.blpop([_answer_key(order_id)], timeout=wait_seconds)
    if found is None:
        raise NoAnswerError(f"No runner of host {host!r} answered {order.get('verb')!r} within {wait_seconds:g} s.")
    answer: dict[str, Any] = json.loads(found[1])
    return answer


def send(host: str, order: dict[str, Any], *, within_seconds: float, remember_seconds: int = 0) -> str:
    """Give an order without waiting; return its id. Later than that it is not taken. Raises `redis.RedisError`."""
    order_id = uuid.uuid4().hex
    message = {**order, "id": order_id, "until": time.time() + within_seconds}
    pipeline = client(Purpose.SCRIPT).pipeline()
    pipeline.rpush(_orders_key(host), json.dumps(message))
    pipeline.expire(_orders_key(host), round(within_seconds) + 1)
    if remember_seconds:
        pipeline.set(_sent_key(order_id), host, ex=remember_seconds)
    pipeline.execute()
    return order_id


def fetch_answer(order_id: str) -> dict[str, Any] | None:
    """The answer to what was sent, for ANSWER_TTL_SECONDS after it came. Raises `redis.RedisError`."""
    found: Any = client(Purpose.SCRIPT).lindex(_answer_key(order_id), 0)
    answer: dict[str, Any] | None = json.loads(found) if found else None
    return answer


def was_sent(order_id: str) -> bool:
    """Is it remembered? Raises `redis.RedisError`."""
    return bool(client(Purpose.SCRIPT).exists(_sent_key(order_id)))


def is_waiting(host: str, order_id: str) -> bool:
    """Has nobody taken it yet? Raises `redis.RedisError`."""
    waiting: Any = client(Purpose.SCRIPT).lrange(_orders_key(host), 0, -1)
    return any(order_id in message for message in waiting)


@asynccontextmanager
async def taken(answer: Answer, **info: Any) -> AsyncIterator[None]:
    """Be a member with the role `runner`, and answer orders for this host, whenever Redis can be reached."""
    taker = Taker(answer, info)
    task = asyncio.create_task(taker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await taker.leave()


class Taker:
    def __init__(self, answer: Answer, info: dict[str, Any]) -> None:
        self._answer = answer
        self._info = info
        self._member: members.Member | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        connection = async_client(Purpose.BLOCKING)
        try:
            while True:
                try:
                    async with asyncio.timeout(2 * LISTEN_SECONDS):  # for a server that has gone without a word
                        await self._take(connection)
                except (RedisError, TimeoutError, ValueError):  # ValueError: an order that is no text
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            with suppress(RedisError):
                await connection.aclose()

    async def leave(self) -> None:
        for task in self._under_way:
            task.cancel()
        if self._member is not None:
            await asyncio.to_thread(self._member.leave)

    async def _take(self, connection: redis.asyncio.Redis) -> None:
        found: Any = await connection.blpop(
            [_orders_key(members.host())], timeout=LISTEN_SECONDS if self._member else 1
        )
        if self._member is None:  # only now: before, Redis may be one of the processes still to be started
            self._member = members.join("runner", **self._info)
        if found is None:
            return
        order = _read(found[1])
        if order and order["until"] >= time.time():
            task = asyncio.create_task(self._carry_out(connection, order))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _carry_out(self, connection: redis.asyncio.Redis, order: dict[str, Any]) -> None:
        answer = await self._answer(order)
        pipeline = connection.pipeline()
        pipeline.rpush(_answer_key(order["id"]), json.dumps(answer, default=str))
        pipeline.expire(_answer_key(order["id"]), ANSWER_TTL_SECONDS)
        with suppress(RedisError):  # whoever asked gets no answer, and is told so
            await pipeline.execute()


def _read(message: str) -> dict[str, Any] | None:
    """None for what no `give` has written."""
    try:
        order = json.loads(message)
    except ValueError:
        return None
    well_formed = isinstance(order, dict) and isinstance(order.get("until"), int | float) and "id" in order
    return order if well_formed else None


def _orders_key(host: str) -> str:
    return key("cluster", "orders", host)


def _sent_key(order_id: str) -> str:
    return key("cluster", "order", order_id, "sent")


def _answer_key(order_id: str) -> str:
    return key("cluster", "order", order_id)
