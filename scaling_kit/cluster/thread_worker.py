"""The worker of the web processes."""

from __future__ import annotations

import select

import gunicorn.workers.gthread

from scaling_kit.cluster import drain


class ThreadWorker(gunicorn.workers.gthread.ThreadWorker):  # type: ignore[misc]  # it has no types
    """gunicorn's gthread, but when the whole server stops it answers who has been let in, and then refuses.

    The stock one stops accepting, and leaves the listening socket open for the 2 s in which it serves kept-alive
    connections. Whoever connects meanwhile is let in by the kernel, may send a request, and is reset in the end: nginx
    answers a POST with 502 then, whereas it tries another node when it is refused.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive and drain.is_on():
            for listener in self.sockets:
                while select.select([listener], [], [], 0)[0]:
                    self.accept(listener)
                listener.close()
