"""An open-loop load: requests are sent when their time has come, whether or not the earlier ones have been answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scaling_kit.testing import wait_until

BODY = b"a=1&b=2"
PATIENCE_SECONDS = 20.0


@dataclass(kw_only=True)
class Request:
    number: int
    path: str
    sent_at: float
    """Monotonic, as `answered_at`."""
    answered_at: float = 0.0
    status: int = 0
    body: bytes = b""
    error: str = ""

    @property
    def is_post(self) -> bool:
        return self.number % 2 == 1

    @property
    def keeps_alive(self) -> bool:
        return self.number % 4 < 2

    @property
    def is_lost(self) -> bool:
        return self.status != 200


@dataclass(kw_only=True)
class OpenLoad:
    """GET and POST by turns, half of each on kept-alive connections. Nothing is sent twice."""

    port: int
    path: str
    per_second: float = 100.0
    requests: list[Request] = field(default_factory=list)
    """Those that are over."""
    _idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=deque)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> list[Request]:
        return [request for request in self.requests if request.is_lost]

    @property
    def pids(self) -> set[int]:
        return {int(request.body.split()[0]) for request in self.requests if not request.is_lost}

    def wait_for(self, more: int) -> None:
        target = len(self.requests) + more
        wait_until(lambda: len(self.requests) >= target, timeout_seconds=30, what=f"{target} requests are over")

    async def run(self) -> None:
        began_at = time.monotonic()
        number = 0
        while not self._stop.is_set():
            self._send(number, self.path)
            number += 1
            await asyncio.sleep(began_at + number / self.per_second - time.monotonic())
        await asyncio.gather(*self._under_way)
        for _, writer in self._idle:
            writer.close()

    def _send(self, number: int, path: str) -> None:
        request = Request(number=number, path=path, sent_at=time.monotonic())
        task = asyncio.ensure_future(self._ask(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, request: Request) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._exchange(request)
        except Exception as error:  # whatever it is, this request has no answer
            request.error = repr(error)
        request.answered_at = time.monotonic()
        self.requests.append(request)

    async def _exchange(self, request: Request) -> None:
        reader, writer = await self._connection(request.keeps_alive)
        try:
            writer.write(self._head(request) + (BODY if request.is_post else b""))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            request.body = await _body(head, reader)
            request.status = int(head.split()[1])
        except BaseException:
            writer.close()
            raise
        if request.keeps_alive and "connection: close" not in head:
            self._idle.append((reader, writer))
        else:
            writer.close()

    async def _connection(self, kept_alive: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while kept_alive and self._idle:
            reader, writer = self._idle.popleft()
            if not reader.at_eof() and reader.exception() is None:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    def _head(self, request: Request) -> bytes:
        lines = [f"{'POST' if request.is_post else 'GET'} {request.path} HTTP/1.1", "Host: localhost"]
        lines += [f"Content-Length: {len(BODY)}"] if request.is_post else []
        lines += [] if request.keeps_alive else ["Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode()


async def _body(head: str, reader: asyncio.StreamReader) -> bytes:
    """The whole of it: half an answer is none."""
    if "transfer-encoding: chunked" not in head:
        return await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
    body = b""
    while length := int(await reader.readline(), 16):
        body += (await reader.readexactly(length + 2))[:-2]
    await reader.readexactly(2)
    return body


@contextmanager
def open_load(port: int, path: str, *, per_second: float = 100.0) -> Iterator[OpenLoad]:
    load = OpenLoad(port=port, path=path, per_second=per_second)
    thread = threading.Thread(target=lambda: asyncio.run(load.run()))
    thread.start()
    try:
        yield load
    finally:
        load._stop.set()
        thread.join()
