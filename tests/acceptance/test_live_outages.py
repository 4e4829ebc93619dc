"""Run-time settings behind servers that accept connections and are silent, as a host that has gone without a word."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import redis
from django.db import connection

from scaling_kit.cluster import live_copy
from scaling_kit.embedded import Valkey
from scaling_kit.redis import key
from scaling_kit.testing import wait_until
from tests.acceptance.test_cluster_live import change, database_url, read, reader, valkey_of_the_site

__all__ = ["valkey_of_the_site"]


class Address:
    """An address whose host dies and is replaced: connections made while it is dead are never answered, ever."""

    def __init__(self, port: int) -> None:
        self._behind = ("127.0.0.1", port)
        self._is_dead = False
        self._sockets: list[socket.socket] = []
        self.unanswered = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def listening(self) -> Iterator[Address]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._cut()

    def die(self) -> None:
        self._is_dead = True
        self._cut()

    def be_replaced(self) -> None:
        self._is_dead = False

    def _cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        silent = []
        with ExitStack() as stack, suppress(OSError):
            while True:
                client = stack.enter_context(self._listener.accept()[0])
                if self._is_dead:
                    silent.append(client)
                    self.unanswered += 1
                    continue
                server = stack.enter_context(socket.create_connection(self._behind))
                self._sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=[one, other], daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def sees(process: subprocess.Popen[str], value: int, *, within_seconds: float) -> None:
    wait_until(lambda: read(process)[0] == value, timeout_seconds=within_seconds, what=f"it sees {value}")


def is_subscribed(server: Valkey) -> bool:
    with redis.Redis.from_url(server.url) as asking:
        [(_, number)] = asking.pubsub_numsub(key("live", "changed"))
    return bool(number)


def follower(**environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return reader(os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"} | environment)


def test_redis_accepts_and_is_silent__changes_are_seen(valkey_of_the_site: Valkey) -> None:
    change(5)
    address = Address(valkey_of_the_site.port)
    with address.listening(), follower(REDIS_URL=f"redis://127.0.0.1:{address.port}/0") as process:
        sees(process, 5, within_seconds=10)
        wait_until(lambda: is_subscribed(valkey_of_the_site), what="it waits for messages")
        address.die()
        wait_until(lambda: address.unanswered > 0)
        change(6)
        sees(process, 6, within_seconds=1.5)
        address.be_replaced()
        change(7)
        sees(process, 7, within_seconds=1.5)


def test_database_is_replaced_while_it_is_asked__changes_are_seen(valkey_of_the_site: Valkey) -> None:
    change(5)
    port = int(connection.settings_dict["PORT"])
    with Address(port).listening() as address, follower(DATABASE_URL=database_url(address.port)) as process:
        sees(process, 5, within_seconds=10)
        address.die()
        change(6)
        wait_until(lambda: address.unanswered > 1)
        assert read(process)[0] == 5
        address.be_replaced()
        change(7)
        sees(process, 7, within_seconds=live_copy.LOAD_SECONDS + 1.5)
