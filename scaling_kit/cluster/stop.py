"""`manage.py cluster stop NAME ...`, or `--all`, which ends the runner too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit.cluster import run_folder
from scaling_kit.cluster.asking import add_json_argument, ask, report
from scaling_kit.cluster.conf import settings

HELP = "stop processes until they are started again; with --all, everything and the runner"
POLL_SECONDS = 0.1
# Longer than any process may take to stop: the runner kills what does not.
ENDED_WITHIN_SECONDS = 300.0


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="web, websocket, workers, scheduler ...")
    parser.add_argument("--all", action="store_true", help="everything, in order, and the runner")
    add_json_argument(parser)


def run(*, names: list[str], all: bool, json: bool, stdout: OutputWrapper, **_: Any) -> int:  # noqa: A002
    if all == bool(names):
        raise CommandError("cluster stop takes names of processes, or --all.")
    if names:
        return report(ask("stop", names=names), stdout, as_json=json)
    status = report(ask("down"), stdout, as_json=json)
    _wait_for_the_end(Path(settings.RUN_FOLDER).absolute())
    return status


def _wait_for_the_end(folder: Path) -> None:
    deadline = time.monotonic() + ENDED_WITHIN_SECONDS
    while (state := run_folder.read_state(folder)) is not None:
        if time.monotonic() > deadline:
            raise CommandError(f"The runner with pid {state['runner']} has not ended.")
        time.sleep(POLL_SECONDS)
