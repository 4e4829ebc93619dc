"""What runs on this host, in a file: `cluster` commands and people find the runner and its processes there."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LOOKS = 20
LOOK_SECONDS = 0.01


class InUseError(Exception):
    """Another runner runs in this folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only runner of `folder`. Raises `InUseError` naming the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder).open("a+") as lock:
        if not _lock(lock):
            lock.seek(0)
            raise InUseError(f"{folder} is in use by the runner with pid {lock.read().strip() or 'unknown'}.")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            state_file(folder).unlink(missing_ok=True)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the state; a reader sees the old or the new one, never a part. For the owner's eyes only."""
    draft = folder / "state.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(state, indent=2))
    draft.replace(state_file(folder))


def read_state(folder: Path) -> dict[str, Any] | None:
    """`{"runner": pid, "url": ..., "processes": {name: {"pid", "state", "starts"}}}`, or None if nothing runs here."""
    try:
        state: dict[str, Any] = json.loads(state_file(folder).read_text())
    except FileNotFoundError:
        return None
    return state if _is_held(folder) else None


def state_file(folder: Path) -> Path:
    return folder / "state.json"


def lock_file(folder: Path) -> Path:
    return folder / "lock"


def _lock(lock: IO[str]) -> bool:
    """Take it, unless a runner has it. Whoever looks has it, too, but for a moment."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_SECONDS)
        else:
            return True
    return False


def _is_held(folder: Path) -> bool:
    """Does a runner have the lock? A process id would not tell: another process may have it by now."""
    try:
        with lock_file(folder).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
