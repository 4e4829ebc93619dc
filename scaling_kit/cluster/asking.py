"""`manage.py cluster reload`, `restart`, `start`: ask the runner of this host, and say what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit.cluster import control, run_folder
from scaling_kit.cluster.conf import settings


def ask(verb: str, **order: Any) -> dict[str, Any]:
    """The answer of the runner of this host, whatever it is. Raises `CommandError` if there is no runner."""
    folder = Path(settings.RUN_FOLDER).absolute()
    try:
        state = run_folder.read_state(folder)
    except PermissionError as error:
        raise CommandError(f"{folder} is for the user who runs `cluster up` there: {error.strerror}.") from error
    try:
        return control.ask(control.socket_file(folder), {"verb": verb, **order})
    except control.NoRunnerError as error:
        if state is None:
            raise CommandError(f"Nothing runs in {folder}. Start it there with `manage.py cluster up`.") from error
        raise CommandError(f"The runner with pid {state['runner']} does not answer: {error}.") from error


def insist(verb: str, **order: Any) -> dict[str, Any]:
    """As `ask`; raises `CommandError` with the reason if it was refused."""
    answer = ask(verb, **order)
    if not answer["ok"]:
        raise CommandError(answer["reason"])
    return answer


def add_json_argument(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def report(answer: dict[str, Any], stdout: OutputWrapper, *, as_json: bool) -> int:
    """Say what was done to each process; return the exit status. Raises `CommandError` with the reason of a refusal."""
    if as_json:
        stdout.write(json.dumps(answer, indent=2))
        return 0 if answer["ok"] else 1
    for name, what in answer.get("done", {}).items():
        stdout.write(f"{name}: {what}")
    if not answer["ok"]:
        raise CommandError(answer["reason"])
    return 0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A subcommand that gives an order about the processes of some names."""

    verb: str
    HELP: str
    nargs: str = "+"
    names_help: str = "web, websocket, workers, scheduler ..., or all"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs=self.nargs, metavar="NAME", help=self.names_help)
        add_json_argument(parser)

    def run(self, *, names: list[str], json: bool, stdout: OutputWrapper, **_: Any) -> int:
        return report(ask(self.verb, names=names), stdout, as_json=json)


reload = Order(
    verb="reload",
    HELP="replace processes by ones with new code, without losing a request",
    nargs="*",
    names_help="web, websocket, workers, scheduler ...; default all",
)
restart = Order(verb="restart", HELP="stop and start processes; connections wait meanwhile")
start = Order(verb="start", HELP="start processes that were stopped")
reset = Order(
    verb="reset",
    HELP="count the starts of processes anew",
    nargs="*",
    names_help="web, websocket, workers, scheduler ...; default all",
)
