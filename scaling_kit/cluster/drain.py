"""Is this server about to stop? One byte of memory that a gunicorn master shares with its workers."""

from __future__ import annotations

import mmap

_flag: mmap.mmap | None = None


def share() -> None:
    """Make the flag, before the first fork."""
    global _flag
    _flag = _flag or mmap.mmap(-1, 1)


def begin() -> None:
    """From now on `/health/ready` of every worker answers 503."""
    if _flag is not None:
        _flag[0] = 1


def is_on() -> bool:
    return _flag is not None and _flag[0] == 1
