"""Outlive the runner by a moment: when it is gone, even by kill -9, kill every process of the sessions it started.

Run by path with `python -I -S`, so it imports nothing but the standard library. Reads lines from its standard input:
`+<pid>` when the runner has started the leader of a session, `-<pid>` when that session is empty. End of file means
that the runner has ended. The kernel kills the leaders themselves (see launch.py); this is for their children, such
as the workers of a gunicorn master, for which nobody else is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

COMMAND = [sys.executable, "-I", "-S", __file__]
ROUNDS = 20
ROUND_SECONDS = 0.1


class Guard:
    """The guardian as the runner sees it: a process of its own, started again when it is killed."""

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._popen: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._popen = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, text=True, start_new_session=True)
        for session in self._sessions:
            self._tell(f"+{session}")

    def restart_if_dead(self) -> None:
        if self._popen and self._popen.poll() is not None:
            self.start()

    def watch(self, session: int) -> None:
        self._sessions.add(session)
        self._tell(f"+{session}")

    def forget(self, session: int) -> None:
        self._sessions.discard(session)
        self._tell(f"-{session}")

    def stop(self) -> None:
        if popen := self._popen:
            self._popen = None
            popen.communicate()

    def _tell(self, line: str) -> None:
        if self._popen and self._popen.stdin:
            with suppress(BrokenPipeError):  # it is being restarted, and is then told everything
                self._popen.stdin.write(line + "\n")
                self._popen.stdin.flush()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kill(sessions_left_open())


def sessions_left_open() -> set[int]:
    """Listen to the runner until it ends."""
    sessions: set[int] = set()
    for line in sys.stdin:
        change, session = line[0], int(line[1:])
        (sessions.add if change == "+" else sessions.discard)(session)
    return sessions


def kill(sessions: set[int]) -> None:
    """In rounds: a process may fork while it is being killed."""
    for _ in range(ROUNDS):
        if not send(signal.SIGKILL, sessions):
            return
        time.sleep(ROUND_SECONDS)


def exists(session: int) -> bool:
    """Is anyone left in it? A zombie, which only its parent can bury, does not count."""
    return any(found == session for _, found in living())


def send(number: signal.Signals, sessions: set[int]) -> bool:
    """Signal every process of these sessions, whatever process group it has made; False if there is none."""
    found = [pid for pid, session in living() if session in sessions]
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def living() -> Iterator[tuple[int, int]]:
    """Process and session id of every process of the machine that is not a zombie."""
    if Path("/proc/self/stat").exists():
        return _living_by_proc()
    return _living_by_ps()


def _living_by_proc() -> Iterator[tuple[int, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _parent, _group, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if state != "Z":
                yield int(stat.parent.name), int(session)


def _living_by_ps() -> Iterator[tuple[int, int]]:
    listing = subprocess.run(["/bin/ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=False)
    for pid, state in map(str.split, listing.stdout.splitlines()):
        with suppress(OSError):
            if not state.startswith("Z"):
                yield int(pid), os.getsid(int(pid))


if __name__ == "__main__":
    main()
