"""What others are told when a transaction ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, OperationalError

from scaling_kit.cache import marks, unsent
from scaling_kit.cache.marks import Mark

# SQLSTATE classes of the connection that broke, and of the server that shuts down: maybe after the COMMIT.
_CUT_OFF = ("08", "57P")


@contextmanager
def published(tags: Iterable[str], mark: Mark | None) -> Iterator[None]:
    """Bump when the body, which commits, has ended or failed: an error does not prove that nothing was committed.

    The mark is released with that. If it is unknown how the COMMIT went (the connection broke, a signal came), it
    stays: the server may be committing only now, after our bump, and the mark is bumped once more at its deadline.
    """
    wanted, release = set(tags), [mark.token] if mark else []
    try:
        with marks.prolonged(wanted, mark):
            yield
    except BaseException as error:
        if not is_answer(error):
            release = []
        raise
    finally:
        unsent.bump(wanted, release=release)


def is_answer(error: BaseException) -> bool:
    """Is this what the database server itself said, so that what was sent to it is over?"""
    if not isinstance(error, OperationalError):
        return isinstance(error, DatabaseError)
    cause = error.__cause__
    if hasattr(cause, "sqlite_errorcode"):
        return True
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    return bool(state) and not state.startswith(_CUT_OFF)
