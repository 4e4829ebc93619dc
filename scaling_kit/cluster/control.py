"""The runner's control socket: a line of JSON for each order, and one for each answer.

    {"verb": "scale", "names": {"web": "+1"}} → {"ok": true, "done": {"web": "scaled from 2 to 3"}}
                                              → {"ok": false, "code": "unknown_name", "reason": "...", "done": {}}

For the user of the runner only. What the verbs do is in verbs.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from scaling_kit.cluster.output import Output

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

OWNER_ONLY = 0o177  # umask


class NoRunnerError(Exception):
    """Nobody listens at a control socket."""


def socket_file(folder: Path) -> Path:
    return folder / "control.sock"


@asynccontextmanager
async def serving(path: Path | None, answer: Answer, output: Output) -> AsyncIterator[None]:
    """Answer orders at this path for the length of the block. Whatever is wrong there must stop no process."""
    try:
        listener = _listen(path) if path else None
    except OSError as error:
        output.event("no control socket, cluster commands cannot reach this runner: path=%s error=%r", path, str(error))
        listener = None
    if path is None or listener is None:
        yield
        return
    connections = Connections(answer)
    server = await asyncio.start_unix_server(connections.serve, sock=listener)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()
        await connections.close()


def ask(path: Path, order: dict[str, Any], *, timeout_seconds: float | None = None) -> dict[str, Any]:
    """Give an order and wait for the answer, for which some need minutes. Raises `NoRunnerError`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(str(path))
            connection.sendall(_line(order))
            with connection.makefile("rb") as answers:
                line = answers.readline()
        except OSError as error:
            raise NoRunnerError(f"{path}: {error.strerror or error}") from error
    if not line:
        raise NoRunnerError(f"{path}: the runner ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    return answer


class Connections:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (for mypy: a coroutine runs in a task)
        self._open.add(task)
        try:
            while line := await reader.readline():
                writer.write(_line(await self._answer_line(line)))
                await writer.drain()
        except (OSError, ValueError):  # it has gone, or sends something that is no line
            pass
        except asyncio.CancelledError:  # the runner ends
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=1.0)

    async def _answer_line(self, line: bytes) -> dict[str, Any]:
        try:
            order = json.loads(line)
        except ValueError:
            order = None
        if not isinstance(order, dict):
            return {"ok": False, "code": "malformed", "reason": "An order is a JSON object on one line."}
        return await self._answer(order)


def _listen(path: Path) -> socket.socket:
    """Take the place of what a killed runner left; that there is no other, the lock of the run folder tells."""
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    previous = os.umask(OWNER_ONLY)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, default=str).encode() + b"\n"
