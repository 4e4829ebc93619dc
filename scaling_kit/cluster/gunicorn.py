"""gunicorn's configuration for the web processes of one host.

    python -m scaling_kit.cluster.serve -c python:scaling_kit.cluster.gunicorn project.wsgi

The command line overrides what is here; a configuration file of your own may begin with
`from scaling_kit.cluster.gunicorn import *`. Values come from SCALING_KIT_CLUSTER_* in the settings that
DJANGO_SETTINGS_MODULE names, and are read again on SIGHUP. Runs in the master, so it imports little: see `aside`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from scaling_kit.cluster import aside, reports
from scaling_kit.cluster.cores import usable_cores


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"scaling_kit-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user: whoever owns it could command this server")
    return folder


django = aside.settings()

# Threads: measured at three to five times the requests per core of Django under any ASGI server.
worker_class = "scaling_kit.cluster.thread_worker.ThreadWorker"
workers = django["WORKERS"] or usable_cores()
threads = django["THREADS"]

graceful_timeout = django["GRACEFUL_SECONDS"]
boot_timeout = django["BOOT_SECONDS"]
drain = django["DRAIN_SECONDS"]
# Under the kit's master these have a worker replaced: see `arbiter`. Jitter, so that hosts do not do it all at once.
max_requests = django["MAX_REQUESTS"]
max_requests_jitter = max_requests // 10
memory_max_mb = django["MEMORY_MAX_MB"]
# Longer than a balancer keeps its idle connections (nginx: 60 s), or it sends a request into one that we just closed.
keepalive = 75

# Heartbeats are file times; on a disk, fsync of somebody else can stall them for longer than a worker may be silent.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  (gunicorn makes and unlinks its own)

# One per master. gunicorn's default is one per user, which the next master would take over and later delete.
control_socket = str(_own_folder() / f"gunicorn-{os.getpid()}.ctl")


def post_worker_init(worker: Any) -> None:
    """In the worker, after the application is loaded."""
    from scaling_kit import members

    if reports.are_read():
        worker.max_requests = sys.maxsize  # the master replaces it; by itself it would stop first and be missed

    members.join(getattr(worker, "role", "web"), control_socket=worker.cfg.control_socket)


def post_request(worker: Any, _request: Any) -> None:
    """In the worker, after each request."""
    reports.report_served(worker.age, worker.nr)


def worker_exit(_server: Any, worker: Any) -> None:
    """In the worker, at its end, or in the master for a worker that it finds gone."""
    if worker.pid != os.getpid():
        return
    from scaling_kit import members

    member = members.current()
    if member is not None:
        member.leave()


def child_exit(server: Any, worker: Any) -> None:
    """In the master, which must not wait: a worker that was told to stop has left by itself, another one has not."""
    if worker.pid not in getattr(server, "retiring", ()):
        aside.forget(worker.pid)
