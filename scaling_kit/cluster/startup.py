"""`manage.py cluster startup`: a systemd unit that runs `cluster up` of this project at boot.

    manage.py cluster startup --user deploy > /etc/systemd/system/project.service
    manage.py cluster startup --socket > /etc/systemd/system/project.socket

With the socket unit, of the same name, systemd listens itself: connections wait while the runner is restarted.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper

from scaling_kit.cluster import wanted
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.listening import BACKLOG, HOST, PORT, host_and_port
from scaling_kit.cluster.processes import project_environment

HELP = "print a systemd unit that runs `cluster up` at boot"
# Longer than `runworkers` lets jobs go on.
STOP_SECONDS = 60

SERVICE = """\
# {name}.service: sudo systemctl enable --now {name}
[Unit]
Description={name}: web, websocket, worker and scheduler processes
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
{environment}
ExecStart={up}
ExecReload={reload}
# The runner stops its processes in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={stop_seconds}
Restart=on-failure
RestartSec=1
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

SOCKET = """\
# {name}.socket: sudo systemctl enable --now {name}.socket
[Unit]
Description={name}: the listening socket

[Socket]
ListenStream={address}
Backlog={backlog}

[Install]
WantedBy=sockets.target
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--name", help="of the unit; default: the project's folder")
    parser.add_argument("--user", help="to run as; default: you")
    parser.add_argument("--environment-file", metavar="PATH", help="lines of NAME=value: secrets, addresses")
    parser.add_argument("--bind", type=host_and_port, metavar="HOST:PORT", help=f"default {HOST}:{PORT}")
    parser.add_argument("--socket", action="store_true", help="print the socket unit that goes with it instead")


def run(
    *,
    name: str | None,
    user: str | None,
    environment_file: str | None,
    bind: tuple[str, int] | None,
    socket: bool,
    stdout: OutputWrapper,
    **_: Any,
) -> int:
    name = name or Path.cwd().name
    at = bind or (HOST, PORT)
    stdout.write(
        socket_unit(name, at) if socket else service_unit(name, user or getpass.getuser(), environment_file, at)
    )
    return 0


def service_unit(name: str, user: str, environment_file: str | None, bind: tuple[str, int]) -> str:
    known = {name: value for name, value in project_environment().items() if name != "PYTHONUNBUFFERED"}
    environment = [f"Environment={quoted(f'{key}={value}')}" for key, value in known.items()]
    if environment_file:
        environment.append(f"EnvironmentFile={_escaped(str(Path(environment_file).absolute()))}")
    return SERVICE.format(
        name=name,
        user=user,
        folder=_escaped(os.getcwd()),  # noqa: PTH109  (text, not a path)
        environment="\n".join(environment),
        up=_command("up", "--bind", _address(bind)),
        reload=_command("reload"),
        stop_seconds=round(_stop_seconds() + 15),
    )


def _stop_seconds() -> float:
    """Of the slowest process; they stop side by side, but for nginx."""
    others = [other.stop_seconds for other in wanted.others().values()]
    return max(settings.DRAIN_SECONDS + settings.GRACEFUL_SECONDS, STOP_SECONDS, *others)


def socket_unit(name: str, bind: tuple[str, int]) -> str:
    return SOCKET.format(name=name, address=_address(bind), backlog=BACKLOG)


def quoted(text: str) -> str:
    """One word of a unit file, whatever is in it (systemd.syntax(7))."""
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped != text or " " in text else text


def _command(*arguments: str) -> str:
    words = [sys.executable, "-m", "django", "cluster", *arguments]
    return " ".join(quoted(word).replace("$", "$$") for word in words)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _address(bind: tuple[str, int]) -> str:
    host, port = bind
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"
