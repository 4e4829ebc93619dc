"""For how long what was right may still be served while it is computed anew.

From Redis nobody learns since when an entry has been wrong, only when one of its tags was bumped last. So a process
goes by what it has seen itself: an entry that was right at some moment has been wrong for no longer than since then.
Never for what this process has changed itself: whoever wrote wants to see what they wrote.
"""

from __future__ import annotations

import os
import time
from typing import Any

from scaling_kit.cache import signals
from scaling_kit.cache.tags import EPOCH

MOST = 4096

_right_at: dict[str, float] = {}
_written_at: dict[str, float] = {}


def note_right(digest: str) -> None:
    """The entry with this digest has been found right, or made."""
    if len(_right_at) >= MOST:
        _right_at.clear()
    _right_at[digest] = time.monotonic()


def may_be_served(digest: str, tags: frozenset[str], seconds: float) -> bool:
    """Was it right less than so long ago, and has this process changed nothing of it since?"""
    since = time.monotonic() - seconds
    return _right_at.get(digest, -1.0) > since and not any(_written_at.get(tag, -1.0) > since for tag in tags)


def _note_written(*, tags: set[str], **_: Any) -> None:
    """Receiver of `invalidated`."""
    if len(_written_at) + len(tags) > MOST:
        _written_at.clear()
        tags = {EPOCH}  # every entry has it
    _written_at.update(dict.fromkeys(tags, time.monotonic()))


def _forget_the_parent() -> None:
    _right_at.clear()


signals.invalidated.connect(_note_written, dispatch_uid="scaling_kit.cache.staleness")
os.register_at_fork(after_in_child=_forget_the_parent)
