"""A client of a RoomConsumer in the same process, without a server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from asgiref.testing import ApplicationCommunicator

from scaling_kit.realtime.consumers import RoomConsumer


class User:
    is_authenticated = True


class Client:
    def __init__(self, consumer: type[RoomConsumer] = RoomConsumer, **scope: Any) -> None:
        scope = {"type": "websocket", "headers": [], "subprotocols": ["kit.v1"], "user": User(), **scope}
        self.asgi = ApplicationCommunicator(consumer.as_asgi(), scope)

    async def connect(self) -> dict[str, Any]:
        await self.asgi.send_input({"type": "websocket.connect"})
        return dict(await self.asgi.receive_output(5))

    async def send(self, **message: Any) -> None:
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        await self.asgi.send_input({"type": "websocket.receive", "text": text})

    async def receive(self) -> dict[str, Any]:
        message = await self.asgi.receive_output(5)
        return dict(json.loads(message["text"])) if message["type"] == "websocket.send" else dict(message)

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self.send(**message)
        return await self.receive()

    async def close(self) -> None:
        await self.asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.asgi.wait(5)


@asynccontextmanager
async def connected(consumer: type[RoomConsumer] = RoomConsumer, **scope: Any) -> AsyncIterator[Client]:
    client = Client(consumer, **scope)
    accepted = await client.connect()
    assert accepted == {"type": "websocket.accept", "subprotocol": "kit.v1"}
    yield client
    await client.close()


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own, and let its last tasks end."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def whole() -> None:
            await test(*args, **kwargs)
            others: set[Awaitable[Any]] = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[assignment]
            await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)

        asyncio.run(whole())

    return run
