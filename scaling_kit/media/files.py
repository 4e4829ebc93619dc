"""Objects in S3 as Python files: read in ranges, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import Any

from django.core.files.base import File
from storages.backends.s3 import S3File

# One request per this many bytes when an object is read in order.
READ_AHEAD_BYTES = 1024 * 1024

# (first byte, number of bytes) -> the bytes; fewer only at the end of the object.
Fetch = Callable[[int, int], bytes]


class RangeReader(io.RawIOBase):
    """A seekable stream over an object of known size. Holds nothing but its position."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._read_up_to(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read_up_to(self._size)

    def _read_up_to(self, count: int) -> bytes:
        count = min(count, self._size - self._position)
        if count <= 0:
            return b""
        data = self._fetch(self._position, count)
        self._position += len(data)
        return data


class ObjectReader(File):  # type: ignore[type-arg]  # not generic at run time
    """An object opened for reading. `open()` works again after `close()`, as a model's file field expects."""

    def __init__(self, name: str, mode: str, open_stream: Callable[[], RangeReader]) -> None:
        self._open_stream = open_stream
        super().__init__(self._opened(mode), name)
        self.mode = mode

    def open(self, mode: str | None = None, *_args: Any, **_kwargs: Any) -> ObjectReader:
        mode = mode or self.mode
        if self.closed or mode != self.mode:
            self.file = self._opened(mode)
            self.mode = mode
        self.seek(0)
        return self

    def _opened(self, mode: str) -> Any:
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"An object cannot be opened with mode {mode!r}: 'r', 'rb' or 'wb'")
        buffered = io.BufferedReader(self._open_stream(), READ_AHEAD_BYTES)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")


class ObjectWriter(S3File):  # type: ignore[misc]  # django-storages has no types
    """An object opened for writing, in parts. A `with` block that raises leaves no object behind."""

    _file: Any

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Forget what was written; an object of that name, if there was one, stays as it was."""
        if self._multipart is not None:
            self._multipart.abort()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._reset_file_properties()
        self._closed = True
