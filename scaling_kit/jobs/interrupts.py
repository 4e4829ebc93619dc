"""Ending what runs: by an exception that is raised in it, while the job runs and never after it."""

from __future__ import annotations

import ctypes
import threading
import time
from types import TracebackType
from typing import Any

from rq.timeouts import BaseDeathPenalty, JobTimeoutException, UnixSignalDeathPenalty

from scaling_kit.jobs.transitions import Claimed


class JobStopped(BaseException):
    """Somebody asked for the job to be stopped."""


class SignalDeadline(UnixSignalDeathPenalty):
    """For RQ's `death_penalty_class`: the time limit of what runs in the main thread."""

    is_open = False

    def setup_death_penalty(self) -> None:
        SignalDeadline.is_open = True
        if self._timeout > 0:
            super().setup_death_penalty()  # type: ignore[no-untyped-call]

    def cancel_death_penalty(self) -> None:
        SignalDeadline.is_open = False
        if self._timeout > 0:
            super().cancel_death_penalty()  # type: ignore[no-untyped-call]


class Slot:
    """A thread for jobs, one at a time, as the other threads see it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.claimed: Claimed | None = None
        self.deadline = float("inf")
        self._thread_id = 0
        self._lock = threading.Lock()
        self._open = False
        self._sent: type[BaseException] | None = None

    def belongs_to_this_thread(self) -> None:
        self._thread_id = threading.get_ident()
        _own.slot = self

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise `kind` in the thread as soon as it executes Python code. Nothing happens if no job runs there."""
        with self._lock:
            if self._open and self._sent is None:
                self._sent = kind
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), ctypes.py_object(kind))

    def open(self, timeout_seconds: float) -> None:
        self._sent = None
        self._open = True
        if timeout_seconds > 0:
            self.deadline = time.monotonic() + timeout_seconds

    def close(self, *, delivered: bool) -> None:
        """From here on nothing is raised. What was sent at the last moment arrives here, where it does no harm."""
        try:
            self.deadline = float("inf")
            with self._lock:
                self._open = False
            if self._sent is not None and not delivered:
                for _ in range(20):
                    time.sleep(0.001)
        except (JobStopped, JobTimeoutException):
            self._open = False


class ThreadDeadline(BaseDeathPenalty):
    """For RQ's `death_penalty_class`: the time limit of what runs in this thread, which the worker watches over."""

    def __init__(self, timeout: float, exception: type[Exception] = JobTimeoutException, **kwargs: Any) -> None:
        super().__init__(timeout, exception, **kwargs)  # type: ignore[no-untyped-call]
        self._slot: Slot = _own.slot

    def __enter__(self) -> None:
        self._slot.open(self._timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._slot.close(delivered=kind in {JobStopped, JobTimeoutException})
        if isinstance(error, JobTimeoutException) and not error.args:
            error.args = (f"Task exceeded maximum timeout value ({self._timeout} seconds)",)


_own = threading.local()
