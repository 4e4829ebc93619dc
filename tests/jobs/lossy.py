"""A proxy in front of Redis that cuts connections between a command and its reply."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit


class LossyProxy:
    """Forwards bytes. After `lose_replies(n)` the next n replies to scripts, or to commands that contain `of`, are
    swallowed, and their connections cut.

    The server has executed those commands: that is the point.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}"))
        self._to_lose, self._of = 0, b""
        self.lost = 0

    def lose_replies(self, count: int, *, of: bytes = b"EVAL") -> None:
        self._to_lose, self._of, self.lost = count, of, 0

    @contextlib.contextmanager
    def running(self) -> Iterator[LossyProxy]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
            self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as server:
            asked = b""
            while True:
                for readable in select.select([client, server], [], [])[0]:
                    received = readable.recv(1 << 20)
                    if not received or (readable is server and self._loses(asked, received)):
                        return
                    asked = asked + received if readable is client else b""
                    (server if readable is client else client).sendall(received)

    def _loses(self, asked: bytes, reply: bytes) -> bool:
        if not self._to_lose or self._of not in asked or reply.startswith(b"-NOSCRIPT"):
            return False
        self._to_lose -= 1
        self.lost += 1
        return True
