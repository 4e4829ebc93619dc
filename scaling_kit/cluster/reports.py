"""What workers report to their gunicorn master: requests served, and why they could not boot.

Memory that the master shares with its workers, a slot for each: a report costs neither a system call nor a file, and a
worker that is killed has reported all the same.
"""

from __future__ import annotations

import mmap
import struct

SLOTS = 1024  # of the workers alive at one time; a slot is used again by the worker that is as many forks younger
SLOT_BYTES = 512

_SERVED = struct.Struct("=Q")
_slots: mmap.mmap | None = None


def share() -> None:
    """Make the memory, before the first fork."""
    global _slots
    _slots = _slots or mmap.mmap(-1, SLOTS * SLOT_BYTES)


def are_read() -> bool:
    """Is the master above one that reads reports?"""
    return _slots is not None


def clear(age: int) -> None:
    """For a worker about to be forked; `age` is gunicorn's number of it."""
    if _slots is not None:
        _slots[_start(age) : _start(age) + SLOT_BYTES] = bytes(SLOT_BYTES)


def report_served(age: int, requests: int) -> None:
    if _slots is not None:
        _SERVED.pack_into(_slots, _start(age), requests)


def served(age: int) -> int:
    if _slots is None:
        return 0
    requests: int = _SERVED.unpack_from(_slots, _start(age))[0]
    return requests


def report_failure(age: int, error: BaseException) -> None:
    if _slots is not None:
        text = in_one_line(error).encode()[: SLOT_BYTES - _SERVED.size]
        start = _start(age) + _SERVED.size
        _slots[start : start + len(text)] = text


def failure(age: int) -> str:
    """Empty if the worker did not say."""
    if _slots is None:
        return ""
    text = _slots[_start(age) + _SERVED.size : _start(age) + SLOT_BYTES]
    return text.rstrip(b"\0").decode(errors="ignore")


def in_one_line(error: BaseException) -> str:
    """As the last line of its traceback; of what `sys.exit()` was called for, if it was called in a handler."""
    while isinstance(error, SystemExit) and error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")


def _start(age: int) -> int:
    return age % SLOTS * SLOT_BYTES
