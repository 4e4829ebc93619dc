"""The worker of the web processes."""

from __future__ import annotations

import select
import socket
import time
from concurrent.futures import Future
from functools import partial
from itertools import takewhile
from selectors import EVENT_READ

import gunicorn.workers.gthread
from gunicorn.workers.gthread import DEFAULT_WORKER_DATA_TIMEOUT, TConn

from scaling_kit.cluster import drain

LEFT_TO_OTHERS_SECONDS = 0.02


class ThreadWorker(gunicorn.workers.gthread.ThreadWorker):  # type: ignore[misc]  # it has no types
    """gunicorn's gthread, but threads are for requests, and connections for workers that have a thread free.

    A connection gets a thread when its request arrives. The stock worker gives it one when it connects, and has it wait
    there for up to 5 s: as many as there are threads, such as a browser opens in advance, keep everyone else waiting.

    A worker whose threads are all busy leaves new connections to the others until one of its threads is free, but for
    no longer than 20 ms: nobody else was free either. Then it takes as many as it has. The stock one takes what it can
    get, and has requests wait in one worker while another is idle; of two it may get all connections that a balancer
    keeps.

    When the whole server stops it answers who has been let in, and then refuses. The stock one stops accepting, and
    leaves the listening socket open for the 2 s in which it serves kept-alive connections. Whoever connects meanwhile
    is let in by the kernel, may send a request, and is reset in the end: nginx answers a POST with 502 then, whereas it
    tries another node when it is refused.
    """

    under_way = 0
    """Requests that have a thread or wait for one."""
    _patient_until: float | None = None
    """Set when connections were left to others, to the time after which it takes them."""
    _watches = True
    """Whether it would see a new connection, if it accepts any at all."""

    def accept(self, listener: socket.socket) -> None:
        if self.alive and self._is_busy():
            self._leave_to_others()
        else:
            super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        if conn.initialized or conn.data_ready:
            self.under_way += 1
            super().enqueue_req(conn)
        else:
            self._wait_for_request(conn)

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        self.under_way -= 1
        super().finish_request(conn, fs)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self._patient_until is not None:
            timeout = min(timeout, max(self._patient_until - time.monotonic(), 0))
        super().wait_for_and_dispatch_events(timeout)
        if self._patient_until is None:
            return
        if time.monotonic() >= self._patient_until:
            self._patient_until = None
            self._watch()
            self._accept_at_once(at_most=max(self.nr_conns, self.cfg.threads))
        elif not self._is_busy():
            self._watch()

    def set_accept_enabled(self, enabled: bool) -> None:
        self._patient_until = None
        self._watch()
        super().set_accept_enabled(enabled)
        if not self.alive and drain.is_on():
            self._accept_at_once(at_most=self.worker_connections)
            for listener in self.sockets:
                listener.close()

    def _is_busy(self) -> bool:
        """Counting connections let in so lately that their requests are on their way."""
        lately = self._give_up_at() - LEFT_TO_OTHERS_SECONDS
        expected = sum(1 for _ in takewhile(lambda conn: conn.timeout > lately, reversed(self.pending_conns)))
        return bool(self.under_way + expected >= self.cfg.threads)

    def _leave_to_others(self) -> None:
        if self._watches:  # another listener may have had a connection at the same time
            for listener in self.sockets:
                self.poller.unregister(listener)
            self._watches = False
        if self._patient_until is None:
            self._patient_until = time.monotonic() + LEFT_TO_OTHERS_SECONDS

    def _watch(self) -> None:
        if not self._watches:
            for listener in self.sockets:
                self.poller.register(listener, EVENT_READ, self.accept)
            self._watches = True

    def _accept_at_once(self, *, at_most: int) -> None:
        until = min(self.nr_conns + at_most, self.worker_connections)
        for listener in self.sockets:
            while self.nr_conns < until and select.select([listener], [], [], 0)[0]:
                super().accept(listener)

    def _wait_for_request(self, conn: TConn) -> None:
        """As the stock worker does with a connection on which nothing came for 5 s."""
        conn.sock.setblocking(False)
        conn.timeout = self._give_up_at()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _give_up_at(self) -> float:
        """When a connection is closed that is let in now, if nothing comes on it. Monotonic; as in the stock worker."""
        return float(time.monotonic() + DEFAULT_WORKER_DATA_TIMEOUT + self.cfg.keepalive)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)
