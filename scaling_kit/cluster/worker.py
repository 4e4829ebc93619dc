"""The worker of the websocket processes."""

from __future__ import annotations

import asyncio
import socket
import sys
from types import FrameType

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker


class WebsocketWorker(UvicornWorker):  # type: ignore[misc]  # it has no types
    """uvicorn under gunicorn: sockets of a stopping worker are closed with 1012 (service restart), a few at a time.

    Chosen over gunicorn's own ASGI worker, which unmasks messages in Python (a message of 8 MB blocks the loop for
    1.1 s, here for 0.04 s), has no pings and no compression, and lets the sockets of a stopping worker die with 1006
    without telling the consumers: of 20 consumers, `disconnect()` ran in none there and in 20 here.

    A message above SCALING_KIT_CLUSTER_WEBSOCKET_MESSAGE_MAX_BYTES closes its socket with 1009.
    """

    CONFIG_KWARGS = {"loop": "auto", "http": "auto", "ws": "websockets-sansio"}
    role = "websocket"

    def run(self) -> None:
        from scaling_kit.cluster.conf import settings  # not at import: that happens in the master

        self.config.ws_max_size = settings.WEBSOCKET_MESSAGE_MAX_BYTES
        self.config.ws_ping_interval = settings.WEBSOCKET_PING_SECONDS
        self.config.ws_ping_timeout = settings.WEBSOCKET_PING_SECONDS
        self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout
        self._close_seconds = settings.WEBSOCKET_CLOSE_SECONDS
        super().run()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = PoliteServer(self.config, close_seconds=self._close_seconds)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class PoliteServer(Server):
    """Closes websockets spread over `close_seconds`, so that their clients do not all come back at one moment."""

    def __init__(self, config: object, *, close_seconds: float) -> None:
        super().__init__(config)  # type: ignore[arg-type]
        self.close_seconds = close_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # uvicorn ends its process by the signals in this list, once all is closed, and gunicorn's `worker_exit`, by
        # which a worker leaves the list of members, would not run.
        self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # accept nothing more meanwhile
        await self._close_websockets()
        await super().shutdown(sockets)

    async def _close_websockets(self) -> None:
        protocol = self.config.ws_protocol_class
        websockets = [found for found in self.server_state.connections if isinstance(found, protocol)]  # type: ignore[arg-type]
        for websocket in websockets:
            websocket.shutdown()
            await asyncio.sleep(self.close_seconds / len(websockets))
