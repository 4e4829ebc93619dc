"""Tasks of the tests. What they did is left in lists in Redis, `done:<key>`."""

import logging
import os
import signal
import time
from typing import Any

from rq import get_current_job

from scaling_kit.jobs.progress import log, report_progress
from scaling_kit.jobs.tasks import Retry, TaskContext, task
from scaling_kit.redis import Purpose, client, key

hoard: list[bytes] = []


def note(name: str, value: object) -> None:
    client(Purpose.SCRIPT).rpush(key("done", name), str(value))


def noted(name: str) -> list[str]:
    return [str(value) for value in client(Purpose.SCRIPT).lrange(key("done", name), 0, -1)]


@task
def add(a: int, b: int) -> int:
    return a + b


@task
async def add_async(a: int, b: int) -> int:
    return a + b


@task
def append(name: str, value: Any = None) -> None:
    note(name, value)


@task(takes_context=True, retry=[0.0, 0.0])
def third_time_lucky(context: TaskContext) -> int:
    if context.attempt < 3:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


@task(retry=Retry(count=1, first_seconds=0.0))
def fail(message: str) -> None:
    raise ValueError(message)


@task
def return_a_set() -> Any:
    return {1}


@task(timeout=1)
def sleep_too_long() -> None:
    time.sleep(20)


@task(on_commit=False)
def append_at_once(name: str) -> None:
    note(name, "at once")


@task
def add_slowly(a: int, b: int, seconds: float) -> int:
    """Touches no Redis while it works."""
    time.sleep(seconds)
    return a + b


@task
def work_for(name: str, seconds: float) -> None:
    """Note the start, by the pid, and the end."""
    note(name, f"started {os.getpid()}")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)
    note(name, "ended")


@task(takes_context=True)
def work_long_the_first_time(context: TaskContext, name: str) -> None:
    """The first attempt takes for ever; it is killed. The second is quick."""
    note(name, f"started {os.getpid()}")
    if context.attempt == 1:
        time.sleep(60)
    note(name, "ended")


@task
def kill_yourself(name: str) -> None:
    note(name, "started")
    os.kill(os.getpid(), signal.SIGKILL)


@task(timeout=1)
def busy_for(seconds: float) -> None:
    """In Python code all the time, so that it can be interrupted in a thread too."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)


@task(retry=3)
def busy_and_retried(name: str, seconds: float) -> None:
    note(name, "started")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)


@task(takes_context=True, timeout=1)
def stuck_the_first_time(context: TaskContext, name: str) -> None:
    """No exception reaches a thread that waits in C code."""
    if context.attempt == 1:
        time.sleep(60)


@task
def own_pid() -> int:
    return os.getpid()


@task
def grow() -> int:
    hoard.append(b"x" * (400 << 20))
    return os.getpid()


@task
def own_id() -> str:
    job = get_current_job()
    assert job is not None
    return job.id


@task
def plain_failing_task(_name: str) -> None:
    raise ValueError("failing")


def plain(name: str, value: str) -> str:
    """Not a task: a function that a plain django-rq project enqueues."""
    note(name, value)
    return value


def plain_success(job: Any, connection: Any, result: Any, *args: Any) -> None:
    note("callbacks", result)


def plain_failing() -> None:
    raise ValueError("plain")


@task(unique=True)
def append_once(name: str, value: Any = None) -> None:
    note(name, value)


@task(retry=Retry(count=2, backoff="fixed", first_seconds=0.0, only_for=[ValueError]))
def fail_with(kind: str) -> None:
    raise {"value": ValueError, "key": KeyError, "unicode": UnicodeError}[kind](kind)


def every_seven_seconds(retries_done: int) -> float:
    return 7.0 * (retries_done + 1)


def backoff_that_raises(retries_done: int) -> float:
    raise RuntimeError("no idea")


def backoff_of_nonsense(retries_done: int) -> Any:
    return "soon"


@task
def report(steps: int) -> None:
    for step in range(1, steps + 1):
        log(f"step {step}")
        report_progress(step, steps, f"at {step}")


def report_plainly() -> None:
    report_progress(1, 2)
    log("plain")
    logging.getLogger("tests.jobs.tasks").info("logged %s", "twice", extra={})
