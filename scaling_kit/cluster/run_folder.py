"""What runs on this host, in a file: `cluster` commands and people find the runner and its processes there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class InUseError(Exception):
    """Another runner runs in this folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only runner of `folder`. Raises `InUseError` naming the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(f"{folder} is in use by the runner with pid {lock.read().strip() or 'unknown'}.") from None
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
        os.kill(state["runner"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        pass  # it runs, as another user
    return state


def state_file(folder: Path) -> Path:
    return folder / "state.json"
