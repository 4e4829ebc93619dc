"""What the kernel knows of the processes of a session, and of the signals of a process; nothing without a /proc."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Seen:
    pid: int
    parent: int
    session: int
    rss_bytes: int
    cpu_seconds: float
    """Of its own and of its children that have ended."""


def members(sessions: Collection[int]) -> list[Seen]:
    """The living processes of these sessions."""
    return list(_members(sessions))


def children(pid: int) -> frozenset[int]:
    """The living children of the leader of a session that belong to it."""
    return frozenset(seen.pid for seen in _members({pid}) if seen.parent == pid)


def catches(pid: int, number: signal.Signals) -> bool:
    """Would this process handle the signal? One that has just been started may still die of it."""
    return _is_in(pid, number, "SigCgt", otherwise=True)


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Has the signal been sent, but not been taken yet?"""
    return _is_in(pid, number, "ShdPnd", otherwise=False)


def _is_in(pid: int, number: signal.Signals, mask: str, *, otherwise: bool) -> bool:
    try:
        status = (PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return otherwise
    found = next((line for line in status.splitlines() if line.startswith(mask)), None)
    return bool(int(found.split()[1], 16) >> (number - 1) & 1) if found else otherwise


def _members(sessions: Collection[int]) -> Iterator[Seen]:
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, *fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if state != "Z" and int(fields[2]) in sessions:
                yield Seen(
                    pid=int(stat.parent.name),
                    parent=int(fields[0]),
                    session=int(fields[2]),
                    rss_bytes=int(fields[20]) * page,
                    cpu_seconds=sum(map(int, fields[10:14])) / ticks,
                )
