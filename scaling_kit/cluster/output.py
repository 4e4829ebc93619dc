"""What the processes of one host say, on one stream: each line behind the name of who said it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Protocol

NAME_WIDTH = 11
PREFIXED, TIMED, JSON = FORMS = ("prefixed", "timed", "json")
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)  # SGR codes that can be read on light and dark
KEPT_LINES = 20
LONGEST_LINE = 64 * 1024
# What can be asked for later, of each process: at most 4 MB.
REMEMBERED_LINES = 1000
REMEMBERED_LENGTH = 4096


@dataclass(frozen=True, kw_only=True)
class Line:
    number: int
    """Grows with every line of any process."""
    at: float
    name: str
    text: str


class Stream(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


class Output:
    """Prefixes lines; in colour on a terminal, unless NO_COLOR is set. `form`: one of FORMS."""

    def __init__(self, stream: Stream | None = None, *, name: str = "runner", form: str = PREFIXED) -> None:
        self._stream = stream or sys.stdout
        self._form = form
        self.name = name
        self._colours: dict[str, int] = {}
        self._kept: dict[str, deque[Line]] = {}
        self._remembered: dict[str, deque[Line]] = {}
        self.number = 0
        """Of the last line."""
        self._in_colour = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def event(self, message: str, *values: object) -> None:
        """A line of the runner's own."""
        self.line(self.name, message % values)

    def line(self, name: str, text: str) -> None:
        self._write(self._remember(name, text))

    def plain(self, text: str) -> None:
        """Without a prefix, for people; in JSON, a line as the others."""
        if self._form == JSON:
            self.line(self.name, text.strip())
        else:
            self._write_out(text)

    def show_kept(self, name: str) -> None:
        """Write the last lines that were kept back."""
        for line in self._kept.pop(name, ()):
            self._write(line)

    def last_lines(self, names: Collection[str], *, limit: int, after: int = 0) -> list[Line]:
        """The last ones of these, or of all if none is named, oldest first; only those with a number above `after`."""
        found = [
            line
            for name, lines in self._remembered.items()
            if not names or name in names
            for line in lines
            if line.number > after
        ]
        return sorted(found, key=lambda line: line.number)[-limit:]

    async def relay(self, name: str, descriptor: int, *, keep: bool = False) -> None:
        """Pass on what is written to the other end of a pipe, until all who could write have closed it.

        With `keep`, lines are kept back for `show_kept`.
        """
        write = self._keep if keep else self.line
        reader = asyncio.StreamReader()
        pipe = os.fdopen(descriptor, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        rest = b""
        while chunk := await reader.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                write(name, line.decode(errors="replace"))
        if rest:
            write(name, rest.decode(errors="replace"))
        transport.close()

    def _write(self, line: Line) -> None:
        if self._form == JSON:
            self._write_out(json.dumps(asdict(line)))
            return
        prefix = f"{line.name:<{NAME_WIDTH}} |"
        if self._in_colour:
            colour = self._colours.setdefault(line.name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self._write_out(f"{clock(line.at)} {prefix} {line.text}" if self._form == TIMED else f"{prefix} {line.text}")

    def _write_out(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except BrokenPipeError:  # whoever read us is gone; the processes still must be looked after
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        except OSError:  # a full disk: the line is lost
            pass

    def _remember(self, name: str, text: str) -> Line:
        self.number += 1
        line = Line(number=self.number, at=time.time(), name=name, text=text)
        short = replace(line, text=text[:REMEMBERED_LENGTH])
        self._remembered.setdefault(name, deque(maxlen=REMEMBERED_LINES)).append(short)
        return line

    def _keep(self, name: str, text: str) -> None:
        self._kept.setdefault(name, deque(maxlen=KEPT_LINES)).append(self._remember(name, text))


def clock(at: float) -> str:
    """The time of a line, in the time zone of the machine: 2026-11-25 12:00:00.123."""
    return datetime.fromtimestamp(at).isoformat(" ", "milliseconds")  # noqa: DTZ006
