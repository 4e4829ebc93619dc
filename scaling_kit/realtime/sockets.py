"""The outgoing side of a websocket: a bounded queue, the task that empties it, and how it ends."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from scaling_kit import members

logger = logging.getLogger(__name__)

REPORT_SECONDS = 1.0
# A client that does not read cannot be told goodbye either.
GOODBYE_SECONDS = 2.0


class CloseCode(enum.IntEnum):
    """Why the server closed a socket. Part of the protocol: documented, never renumbered."""

    SERVER_ERROR = 1011
    UNAUTHENTICATED = 4401


class Socket:
    """Sends frames in the order they were queued, at the pace of the client."""

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]], *, queue_size: int) -> None:
        self._send = send
        self._frames: asyncio.Queue[str] = asyncio.Queue(queue_size)
        self._ending: asyncio.Future[tuple[CloseCode, str]] = asyncio.get_running_loop().create_future()

    def offer(self, frame: str) -> bool:
        """Queue a frame, unless the queue is full."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            return False
        return True

    async def put(self, frame: str) -> None:
        """Queue a frame when there is room."""
        await self._frames.put(frame)

    def close(self, code: CloseCode, reason: str) -> None:
        """Have `run` end, and the socket closed. Frames that still wait are not sent."""
        if not self._ending.done():
            self._ending.set_result((code, reason))

    async def run(self, reading: Coroutine[Any, Any, None]) -> None:
        """Send, and run `reading`, until the client is gone, `reading` returns or `close` is called."""
        tasks: list[asyncio.Future[Any]] = [asyncio.create_task(reading), asyncio.create_task(self._write())]
        _connections.change(+1)
        try:
            await asyncio.wait({*tasks, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            _connections.change(-1)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        self._log_failures(results)
        if self._ending.done():
            await self.end(*self._ending.result())

    async def end(self, code: CloseCode, reason: str) -> None:
        """Close the socket now."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
        except (OSError, TimeoutError):
            logger.debug("close code=%d not received, the client is gone", code)

    async def _write(self) -> None:
        while True:
            await self._send({"type": "websocket.send", "text": await self._frames.get()})

    def _log_failures(self, results: list[Any]) -> None:
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, OSError):  # OSError: the client is gone
                logger.error("socket failed", exc_info=result)
                self.close(CloseCode.SERVER_ERROR, "server_error")


class _Connections:
    """Counts the open sockets of this process, and tells the cluster at most once a second."""

    def __init__(self) -> None:
        self.count = 0
        self._is_reporting = False

    def change(self, by: int) -> None:
        self.count += by
        if not self._is_reporting:
            self._is_reporting = True
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._is_reporting = False
        if member := members.current():
            member.update(sockets=self.count)


_connections = _Connections()
