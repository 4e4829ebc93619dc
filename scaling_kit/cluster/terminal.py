"""A terminal as a page that is drawn again and again, and keys that are not waited for."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

ALTERNATE_SCREEN, MAIN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # without and with a cursor
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Terminal(Protocol):
    def write(self, text: str, /, *, ending: str) -> object: ...

    def flush(self) -> None: ...


class Page:
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def show(self, lines: list[str]) -> None:
        self._write(HOME + "\r\n".join(f"{line}{REST_OF_LINE}" for line in lines) + REST_OF_SCREEN)

    def key(self, *, within_seconds: float) -> str:
        """The key that was pressed, or nothing."""
        readable, _, _ = select.select([sys.stdin], [], [], within_seconds)
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if readable else ""

    def _write(self, text: str) -> None:
        self._terminal.write(text, ending="")
        self._terminal.flush()

    @contextmanager
    def opened(self) -> Iterator[Page]:
        """For the length of the block; then the terminal is as it was, even after SIGTERM."""
        before = termios.tcgetattr(sys.stdin)
        previous = signal.signal(signal.SIGTERM, _leave)
        tty.setcbreak(sys.stdin)
        self._write(ALTERNATE_SCREEN)
        try:
            yield self
        finally:
            self._write(MAIN_SCREEN)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
            signal.signal(signal.SIGTERM, previous)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
