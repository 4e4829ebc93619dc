"""A connection to Redis that is cut at the worst moment: after the server has done it, before it could say so."""

import select
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

Exchange = Callable[[bytes, bytes], bool]
"""Given a request and the reply to it: is this the one?"""


class Trap:
    """Waits for the `nth` exchange that is meant, and then cuts its connection."""

    def __init__(self, is_meant: Exchange, nth: int) -> None:
        self._is_meant = is_meant
        self._left = nth
        self._counting = threading.Lock()

    def is_sprung(self) -> bool:
        return self._left == 0

    def catches(self, request: bytes, reply: bytes) -> bool:
        with self._counting:
            if self._left == 0 or not self._is_meant(request, reply):
                return False
            self._left -= 1
            return self._left == 0


class Proxy(socketserver.ThreadingTCPServer):
    """Forwards to the server of a `redis://` URL whatever is sent to `url`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self.server_address_behind = (parts.hostname, parts.port)
        self.trap = Trap(lambda request, reply: False, 1)
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}{parts.path}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()

    def lose_reply(self, is_meant: Exchange, *, nth: int = 1) -> Trap:
        """From now on, swallow the reply to the `nth` exchange that is meant, and cut its connection. Once."""
        self.trap = Trap(is_meant, nth)
        return self.trap


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.server_address_behind) as behind:
            self._forward(behind)

    def _forward(self, behind: socket.socket) -> None:
        request, answered = b"", True
        while True:
            readable, _, _ = select.select([self.request, behind], [], [])
            if self.request in readable:
                data = self.request.recv(1 << 20)
                request, answered = data if answered else request + data, False
                behind.sendall(data)
            elif behind in readable:
                data = behind.recv(1 << 20)
                if not answered and self.server.trap.catches(request, data):
                    return
                answered = True
                self.request.sendall(data)
            if not data:
                return
