"""`manage.py cluster monit`: the processes of this host, live: what they cost and say, requests and queues."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from scaling_kit.cluster.asking import insist
from scaling_kit.cluster.describe import table
from scaling_kit.cluster.output import NAME_WIDTH
from scaling_kit.cluster.terminal import Page
from scaling_kit.cluster.traffic import traffic

HELP = "watch the processes of this host; q or Ctrl-C ends it. Not on a terminal: show them once"
REFRESH_SECONDS = 1.0
HEADS = ("name", "state", "pid", "workers", "restarts", "cpu", "memory", "since")
SIZE_ON_PAPER = (120, 40)


def add_arguments(parser: CommandParser) -> None:
    pass


def run(*, stdout: OutputWrapper, **_: Any) -> int:
    if not (stdout.isatty() and sys.stdin.isatty()):
        stdout.write("\n".join(_once()))
        return 0
    try:
        with Page(stdout).opened() as page:
            _watch(page)
    except KeyboardInterrupt:
        pass
    return 0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there was to see at one moment."""

    at: float
    """Monotonic."""
    processes: Sequence[dict[str, Any]]
    lines: Sequence[dict[str, Any]]
    traffic: Sequence[str]


def look() -> Look:
    """Raises `CommandError` if nothing runs here."""
    return Look(
        at=time.monotonic(),
        processes=insist("list")["processes"],
        lines=insist("logs", lines=100)["lines"],
        traffic=traffic(),
    )


def frame(before: Look, now: Look, *, columns: int, rows: int) -> list[str]:
    """The page, no larger than this. CPU is that since the look before."""
    used = {process["name"]: process["cpu_seconds"] for process in before.processes}
    seconds = max(now.at - before.at, 0.001)
    shown = table([HEADS, *(_row(process, used, seconds) for process in now.processes if _is_of_interest(process))])
    upper = [*shown, "", *now.traffic, ""]
    room = max(rows - len(upper), 0)
    lower = [_text(line) for line in now.lines[-room:]] if room else []
    return [line[:columns] for line in [*upper, *lower]][:rows]


def _once() -> list[str]:
    before = look()
    time.sleep(REFRESH_SECONDS)
    columns, rows = SIZE_ON_PAPER
    return frame(before, look(), columns=columns, rows=rows)


def _watch(page: Page) -> None:
    """Until q is pressed. Goes on when the runner ends: it may be started again."""
    before: Look | None = None
    while True:
        try:
            now = look()
            columns, rows = shutil.get_terminal_size()
            page.show(frame(before or now, now, columns=columns, rows=rows))
            before = now
        except CommandError as error:
            page.show([str(error)])
        if page.key(within_seconds=REFRESH_SECONDS) == "q":
            return


def _is_of_interest(process: dict[str, Any]) -> bool:
    return bool(process["state"] != "done")


def _row(process: dict[str, Any], used: dict[str, float], seconds: float) -> tuple[str, ...]:
    cpu = max(process["cpu_seconds"] - used.get(process["name"], process["cpu_seconds"]), 0) / seconds
    return (
        process["name"],
        process["state"],
        str(process["pid"] or "-"),
        str(process["workers"] or "-"),
        str(max(process["starts"] - 1, 0)),
        f"{cpu:.0%}",
        f"{process['rss_bytes'] / 2**20:.0f} MiB",
        _duration(time.time() - process["since"]),
    )


def _text(line: dict[str, Any]) -> str:
    """Without what a terminal would obey."""
    text = "".join(character if character.isprintable() else " " for character in line["text"])
    return f"{line['name']:<{NAME_WIDTH}} | {text}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
