"""For the tests of a project that uses the jobs room.

`ImmediateBackend` runs a task where it is enqueued, `DummyBackend` only keeps what was enqueued; neither needs Redis:

    TASKS = {"default": {"BACKEND": "scaling_kit.jobs.testing.ImmediateBackend"}}

`captured_jobs` and `run_jobs` are for tests of the whole way, with the real backend and a real Redis.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.db import connections

from scaling_kit.jobs import queues, tasks
from scaling_kit.jobs.backend import RQBackend
from scaling_kit.jobs.order import Order
from scaling_kit.jobs.upkeep import LEASE, move_due_jobs
from scaling_kit.jobs.worker import Worker, WorkerOptions
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client

if TYPE_CHECKING:
    from scaling_kit.jobs.tasks import AnyResult


class ImmediateBackend(tasks.ImmediateBackend):
    """Django's own, for tasks with the kit's arguments. It waits for nothing: no commit, no `run_after`, no retry."""

    task_class = tasks.JobTask
    supports_defer = True


class DummyBackend(tasks.DummyBackend):
    """Django's own, for tasks with the kit's arguments: `task.get_backend().results` is what was enqueued."""

    task_class = tasks.JobTask


@contextmanager
def captured_jobs(*, execute: bool = False) -> Iterator[list[AnyResult]]:
    """What was enqueued through `RQBackend` in the block: a list that is complete when the block is left.

    It contains what waits for the commit of a transaction that is open around the block, as that of a `TestCase`,
    which never commits. With `execute=True` that is enqueued at the end of the block, for `run_jobs` to run it.
    Compare `TestCase.captureOnCommitCallbacks`.
    """
    found: list[AnyResult] = []

    def note(task_result: AnyResult, **_: Any) -> None:
        found.append(task_result)

    waiting_before = _waiting_pushes()
    tasks.task_enqueued.connect(note, sender=RQBackend, dispatch_uid=note)
    try:
        yield found
        for push in [push for push in _waiting_pushes() if push not in waiting_before]:
            if execute:
                push()
            else:
                found += push.args[2]
    finally:
        tasks.task_enqueued.disconnect(sender=RQBackend, dispatch_uid=note)


def run_jobs(queue_names: Sequence[str] | None = None, *, scheduled: bool = False) -> None:
    """Run what waits in these queues, or in all, here and now, until they are empty: plain RQ jobs too.

    With `scheduled=True` also what waits for its time (`run_after`, retries), as if that had come. In the main thread
    only; open transactions stay open.
    """
    names = list(queue_names or queues.names())
    with _signal_handlers_kept(), _transactions_kept():
        while True:
            _run_until_empty(names)
            if not scheduled or not _make_due(names):
                return


def _run_until_empty(names: Sequence[str]) -> None:
    """The one place that knows how a worker is made."""
    options = WorkerOptions(order=Order(queue_names=tuple(names)), mode="simple", burst=True)
    Worker(options, name=f"test-{uuid4().hex[:8]}").run()


def _make_due(names: Sequence[str]) -> int:
    """Move all that is scheduled to its queue; return how much that was."""
    moved = 0
    lease = Lease(LEASE, client=client(Purpose.SCRIPT))
    for name in names:
        connection = queues.connection(name)
        waiting: Any = connection.zrange(queues.scheduled_key(name), 0, -1)
        if waiting:
            connection.zadd(queues.scheduled_key(name), dict.fromkeys(waiting, 0), xx=True)
            moved += len(waiting)
    if moved and lease.hold():
        move_due_jobs(lease)
        lease.release()
    return moved


def _waiting_pushes() -> list[partial[None]]:
    """What the backend has left with Django to be called on commit, in the order it was."""
    waiting = [entry[1] for connection in connections.all(initialized_only=True) for entry in connection.run_on_commit]
    return [callback for callback in waiting if isinstance(callback, partial) and _is_push(callback.func)]


def _is_push(function: Any) -> bool:
    return getattr(function, "__func__", None) is RQBackend._push


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """A worker sets its own, which a test must not be left with."""
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wakeup_fd = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_fd)
        for number, handler in kept.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def _transactions_kept() -> Iterator[None]:
    """A worker closes its connections, which for the transaction of a `TestCase` would be the end."""
    kept = [connection for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    for connection in kept:
        connection.close = lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        for connection in kept:
            del connection.close
