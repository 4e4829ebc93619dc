"""What runs on this host: gunicorn for web and websockets, workers, schedulers, and processes of the project's own.

Websockets if ASGI_APPLICATION is set and scaling_kit.realtime installed, workers if scaling_kit.jobs, a scheduler if
scaling_kit.scheduler. How many: the command line goes before SCALING_KIT_CLUSTER_PROCESSES, and that before WORKERS and
WEBSOCKET_WORKERS.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings as django_settings

from scaling_kit.cluster import nginx, wanted
from scaling_kit.cluster.child import Process, Restarts, Workers
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.cores import usable_cores
from scaling_kit.cluster.listening import Sockets, address, answers
from scaling_kit.cluster.wanted import Wanted


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many processes of each kind; None: as many as suit this host and project."""

    web: int | None = None
    websocket: int | None = None
    workers: int | None = None
    schedulers: int | None = None


def processes(
    counts: Counts,
    sockets: Sockets,
    folder: Path,
    nginx_program: Path | None,
    *,
    s3_endpoint: str = "",
    after: Sequence[str] = (),
) -> list[Process]:
    """What runs on this host, each after the processes named in `after`."""
    found = [
        *_web(counts.web, sockets.web, after),
        *_websocket(counts.websocket, sockets.websocket, after),
    ]
    if nginx_program:
        found.append(_nginx(nginx_program, sockets, folder, s3_endpoint, after=[process.name for process in found]))
    return [*found, *_workers(counts.workers, after), *_schedulers(counts.schedulers, after), *_others(after)]


def manage(*arguments: str) -> list[str]:
    """A command of manage.py, for a process that has `project_environment()`."""
    return [sys.executable, "-m", "django", *arguments]


def project_environment() -> Mapping[str, str]:
    """What lets a child import the project as this process does."""
    path = [entry or str(Path.cwd()) for entry in sys.path[:1]]
    if "PYTHONPATH" in os.environ:
        path.append(os.environ["PYTHONPATH"])
    return {
        "PYTHONPATH": os.pathsep.join(path),
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        "PYTHONUNBUFFERED": "1",
    }


def _web(number: int | None, listener: socket.socket, after: Sequence[str]) -> list[Process]:
    web = wanted.of_kind("web")
    number = web.count if number is None else number
    application = django_settings.WSGI_APPLICATION
    if number == 0 or not application:
        return []
    return [_gunicorn("web", "gunicorn", application, number or settings.WORKERS, web, listener, after)]


def _websocket(number: int | None, listener: socket.socket, after: Sequence[str]) -> list[Process]:
    websocket = wanted.of_kind("websocket")
    number = websocket.count if number is None else number
    application = getattr(django_settings, "ASGI_APPLICATION", None)
    if number == 0 or not application or (number is None and not _installed("realtime")):
        return []
    number = number or settings.WEBSOCKET_WORKERS
    return [_gunicorn("websocket", "gunicorn_websocket", application, number, websocket, listener, after)]


def _gunicorn(
    name: str,
    configuration: str,
    application: str,
    number: int,
    wanted: Wanted,
    listener: socket.socket,
    after: Sequence[str],
) -> Process:
    module, _, variable = application.rpartition(".")
    limit = ["--memory-max-mb", str(wanted.memory_max_mb)] if wanted.memory_max_mb else []
    # fmt: off
    command = [
        sys.executable, "-m", "scaling_kit.cluster.serve", "--config", f"python:scaling_kit.cluster.{configuration}",
        *limit, f"{module}:{variable}",
    ]
    # fmt: on
    return Process(
        name=name,
        workers=Workers(
            count=number or usable_cores(),
            option="--workers",
            reload_failed="reload aborted",
            reload_seconds=settings.BOOT_SECONDS,
            reload_outcome=_reload_outcome,
        ),
        command=command,
        environment={**project_environment(), **wanted.env},
        sockets=[listener],
        is_ready=lambda: answers(listener, "/health/started"),
        ready_within_seconds=settings.BOOT_SECONDS,
        restarts=_restarts(),
        after=after,
        stop_within_seconds=settings.DRAIN_SECONDS + settings.GRACEFUL_SECONDS + 5,
    )


def _reload_outcome(pid: int) -> Path:
    """Beside the control socket that scaling_kit.cluster.gunicorn names, which cannot be imported here."""
    return Path(tempfile.gettempdir()) / f"scaling_kit-{os.getuid()}" / f"gunicorn-{pid}.ctl.reload"


def _nginx(program: Path, sockets: Sockets, folder: Path, s3_endpoint: str, after: Sequence[str]) -> Process:
    if sockets.front is None:
        raise ValueError("nginx needs a front socket")
    own = folder / "nginx"
    own.mkdir(parents=True, exist_ok=True)
    front = nginx.Front(
        listen=address(sockets.front),
        folder=own,
        web=(address(sockets.web),),
        websocket=(address(sockets.websocket),) if "websocket" in after else (),
        s3_endpoint=s3_endpoint,
        user=_own_user() if os.geteuid() == 0 else "",
        version=nginx.version(program),
    )
    configuration = own / "nginx.conf"
    configuration.write_text(nginx.render(front))
    listener = sockets.front
    return Process(
        name="nginx",
        command=nginx.command(program, configuration),
        environment={"NGINX": "3;"},  # nginx's own way to be handed listening sockets, made for its upgrade
        sockets=[listener],
        is_ready=lambda: answers(listener, "/health/live"),
        after=after,
        stop_signal=signal.SIGQUIT,  # graceful
        stop_within_seconds=5,
    )


def _own_user() -> str:
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


def _workers(number: int | None, after: Sequence[str]) -> list[Process]:
    of_workers = wanted.of_kind("workers")
    number = of_workers.count if number is None else number
    if number == 0 or (number is None and not _installed("jobs")):
        return []
    workers = Workers(
        count=number or usable_cores(),
        option="--processes",
        reload_failed="reload given up",
        reload_seconds=settings.BOOT_SECONDS,
    )
    limit = ["--max-memory", f"{of_workers.memory_max_mb * 1_000_000}"] if of_workers.memory_max_mb else []
    return [
        Process(
            name="workers",
            command=manage("runworkers", *limit),
            workers=workers,
            environment={**project_environment(), **of_workers.env},
            restarts=_restarts(),
            after=after,
            stop_within_seconds=40,
        )
    ]


def _schedulers(number: int | None, after: Sequence[str]) -> Iterator[Process]:
    scheduler = wanted.of_kind("scheduler")
    number = scheduler.count if number is None else number
    if number is None:
        number = 1 if _installed("scheduler") else 0
    for name in _names("scheduler", number):
        yield Process(
            name=name,
            group="scheduler",
            command=manage("runscheduler"),
            environment={**project_environment(), **scheduler.env},
            restarts=_restarts(),
            memory_max_mb=scheduler.memory_max_mb,
            after=after,
        )


def _others(after: Sequence[str]) -> Iterator[Process]:
    """The project's own. One that does not run is tried again for ever, and does not end the site."""
    for group, other in wanted.others().items():
        for name in _names(group, 1 if other.count is None else other.count):
            yield Process(
                name=name,
                group=group,
                command=other.command,
                environment={**project_environment(), **other.env},
                folder=Path(other.cwd) if other.cwd else None,
                restarts=_restarts(),
                memory_max_mb=other.memory_max_mb,
                required=False,
                after=after,
                stop_signal=signal.Signals[other.stop_signal],
                stop_within_seconds=other.stop_seconds,
            )


def _names(group: str, number: int) -> list[str]:
    return [group] if number == 1 else [f"{group}.{index}" for index in range(1, number + 1)]


def _restarts() -> Restarts:
    return Restarts(
        first_seconds=settings.RESTART_FIRST_SECONDS,
        last_seconds=settings.RESTART_LAST_SECONDS,
        lasting_seconds=settings.RESTART_LASTING_SECONDS,
        failed_starts=settings.RESTART_FAILED_STARTS,
    )


def _installed(room: str) -> bool:
    return f"scaling_kit.{room}" in django_settings.INSTALLED_APPS
