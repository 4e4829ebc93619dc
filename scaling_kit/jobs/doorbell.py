"""Waiting for a job on any of several queues, without taking one and without polling.

`BLMOVE queue queue RIGHT RIGHT` moves the last id to where it is: it blocks until there is one, and changes nothing.
It waits for one list only, so there is a connection for each queue, and `select` over all of them. What is pushed
to a list of another priority rings the queue's bell, whose loss costs a moment and no job.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Sequence
from typing import Any

import redis

from scaling_kit.jobs import queues
from scaling_kit.redis import Purpose


class Doorbell:
    def __init__(self, queue_names: Sequence[str]) -> None:
        self._pool = queues.connection(queue_names[0], Purpose.BLOCKING).connection_pool
        self._bells: tuple[object, ...] = ("BLPOP", *map(queues.bell_key, queue_names), 0)
        self._armed: dict[tuple[object, ...], Any] = {}

    def wait(self, timeout_seconds: float, *, queue_names: Sequence[str], wake_fd: int) -> None:
        """Return when there may be a job in one of these queues, when `wake_fd` is readable, or after the timeout.

        A queue that may not be touched, a paused one, would ring without end: only its bell is listened to, which
        is rung when it is resumed. Raises `redis.ConnectionError`; the next call connects anew.
        """
        try:
            self._arm(self._bells)
            for key in map(queues.queue_key, queue_names):
                self._arm(("BLMOVE", key, key, "RIGHT", "RIGHT", 0))
            connections = {_fileno(connection): command for command, connection in self._armed.items()}
            readable, _, _ = select.select([*connections, wake_fd], [], [], timeout_seconds)
            for fd in readable:
                if fd != wake_fd:
                    self._answered(connections[fd])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for connection in self._armed.values():
            with contextlib.suppress(Exception):
                connection.disconnect()
            self._pool.release(connection)
        self._armed.clear()

    def _arm(self, command: tuple[object, ...]) -> None:
        if command not in self._armed:
            connection: Any = self._pool.get_connection()
            self._armed[command] = connection
            connection.send_command(*command)

    def _answered(self, command: tuple[object, ...]) -> None:
        connection = self._armed.pop(command)
        try:
            with contextlib.suppress(redis.ResponseError):  # the queue is no list: the claim says so
                connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)


def _fileno(connection: Any) -> int:
    return int(connection._sock.fileno())
