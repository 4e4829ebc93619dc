"""A log file that does not fill the disk."""

from __future__ import annotations

import logging
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 10_000_000
KEPT_FILES = 5


class RotatingFile:
    """What `Output` needs of a stream. `cluster.log` becomes `cluster.log.1` and so on when it is full."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = _Handler(path, maxBytes=max_bytes, backupCount=KEPT_FILES, encoding="utf-8")

    def write(self, text: str) -> None:
        """Whole lines. Raises OSError."""
        self._handler.emit(logging.makeLogRecord({"msg": text.removesuffix("\n")}))

    def flush(self) -> None:
        self._handler.flush()

    def close(self) -> None:
        with suppress(OSError):  # what is left of the last line, on a full disk
            self._handler.close()

    def isatty(self) -> bool:
        return False


class _Handler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002
        raise
