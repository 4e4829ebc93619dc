"""`manage.py cluster <subcommand>`: each subcommand is a module of the room, or an `asking.Order`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandParser

from scaling_kit.cluster import (
    asking,
    describe,
    draining,
    live_command,
    logs,
    monit,
    scale,
    startup,
    status,
    stop,
    up,
)


class Subcommand(Protocol):
    """What there is of each.

    `run(stdout=..., **options)` returns the exit status, and raises `CommandError` for what cannot be done.
    """

    @property
    def HELP(self) -> str: ...  # noqa: N802  (a constant of a module)

    @property
    def run(self) -> Callable[..., int]: ...

    def add_arguments(self, parser: CommandParser) -> None: ...


SUBCOMMANDS: dict[str, Subcommand] = {
    "status": status,
    "up": up,
    "describe": describe,
    "logs": logs,
    "monit": monit,
    "scale": scale,
    "reload": asking.reload,
    "restart": asking.restart,
    "start": asking.start,
    "stop": stop,
    "reset": asking.reset,
    "drain": draining.drain,
    "undrain": draining.undrain,
    "startup": startup,
    "settings": live_command,
}


class Command(BaseCommand):
    help = "Look at the processes of this project, and run those of this host"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="|".join(SUBCOMMANDS))
        for name, module in SUBCOMMANDS.items():
            module.add_arguments(subparsers.add_parser(name, help=module.HELP))

    def handle(self, *_: Any, subcommand: str, **options: Any) -> None:
        try:
            exit_status = SUBCOMMANDS[subcommand].run(**options | {"stdout": self.stdout})
            self.stdout.flush()
        except BrokenPipeError:  # whoever read it has gone, and may not have been told how an order ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            exit_status = 128 + signal.SIGPIPE  # as a shell says it of a program that ended so
        if exit_status:
            sys.exit(exit_status)
