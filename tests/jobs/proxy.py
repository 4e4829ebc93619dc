"""A connection to Redis that is cut at the worst moment: after the server has done it, before it could say so.

Or cut off for a while, as by a network that loses packets, or by a wall that refuses connections.
"""

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

Exchange = Callable[[bytes, bytes], bool]
"""Given a request and the reply to it: is this the one?"""


class Trap:
    """Lets pass the first exchanges that are meant, and cuts the connections of the next."""

    def __init__(self, is_meant: Exchange, nth: int, times: int) -> None:
        self._is_meant = is_meant
        self._left = nth - 1 + times
        self._times = times
        self._counting = threading.Lock()

    def is_sprung(self) -> bool:
        return self._left == 0

    def catches(self, request: bytes, reply: bytes) -> bool:
        with self._counting:
            if self._left == 0 or not self._is_meant(request, reply):
                return False
            self._left -= 1
            return self._left < self._times


class Sieve(Trap):
    """Cuts the connection of each `nth` exchange that is meant, for ever."""

    def __init__(self, is_meant: Exchange, nth: int) -> None:
        super().__init__(is_meant, 1, 0)
        self._nth = nth
        self._seen = 0

    @property
    def caught(self) -> int:
        return self._seen // self._nth

    def catches(self, request: bytes, reply: bytes) -> bool:
        with self._counting:
            if not self._is_meant(request, reply):
                return False
            self._seen += 1
            return self._seen % self._nth == 0


class Proxy(socketserver.ThreadingTCPServer):
    """Forwards to the server of a `redis://` URL whatever is sent to `url`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self.server_address_behind = (parts.hostname, parts.port)
        self.trap = Trap(lambda request, reply: False, 1, 0)
        self.passes = threading.Event()
        self.passes.set()
        self._silent_from = b""
        self.accepts = True
        self.connected: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}{parts.path}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()

    def lose_reply(self, is_meant: Exchange, *, nth: int = 1, times: int = 1) -> Trap:
        """Swallow the reply to the `nth` exchange from now on that is meant, and cut its connection; so many times."""
        self.trap = Trap(is_meant, nth, times)
        return self.trap

    def lose_every(self, is_meant: Exchange, *, nth: int) -> Sieve:
        """Swallow the reply to each `nth` exchange from now on that is meant, and cut its connection."""
        self.trap = sieve = Sieve(is_meant, nth)
        return sieve

    @contextmanager
    def silent(self, *, from_request: bytes = b"") -> Iterator[None]:
        """Hold whatever is sent, either way, for the length of a `with` block; then deliver it, as TCP does.

        `from_request`: only once a request has this in it, which is the first to be held.
        """
        self._silent_from = from_request
        if not from_request:
            self.passes.clear()
        try:
            yield
        finally:
            self._silent_from = b""
            self.passes.set()

    def look_at(self, request: bytes) -> None:
        if self._silent_from and self._silent_from in request:
            self.passes.clear()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Cut every connection, and each new one, for the length of a `with` block."""
        self.accepts = False
        for connection in list(self.connected):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self.accepts = True


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        self.server.connected.add(self.request)
        try:
            if self.server.accepts:
                with suppress(OSError), socket.create_connection(self.server.server_address_behind) as behind:
                    self._forward(behind)
        finally:
            self.server.connected.discard(self.request)

    def _forward(self, behind: socket.socket) -> None:
        request, answered = b"", True
        while True:
            readable, _, _ = select.select([self.request, behind], [], [])
            if self.request in readable:
                data = self.request.recv(1 << 20)
                self.server.look_at(data)
                self.server.passes.wait()
                request, answered = data if answered else request + data, False
                behind.sendall(data)
            elif behind in readable:
                data = behind.recv(1 << 20)
                self.server.passes.wait()
                if not answered and self.server.trap.catches(request, data):
                    return
                answered = True
                self.request.sendall(data)
            if not data:
                return
