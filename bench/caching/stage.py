"""What a case acts on: the rows as they are in the database, a cached read of them, other threads and processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
import redis
from django.db import connection, connections
from rest_framework.test import APIRequestFactory

from bench.caching.data import FILL, TRUTH
from bench.caching.field import ROOT, library
from scaling_kit.embedded import Valkey
from scaling_kit.testing import die_with_parent, start, wait_until

T = TypeVar("T")

ARTICLES = 'FROM "caching_article"'
SLOW_SECONDS = 0.05  # so that misses at the same time are at the same time


class NotCachedError(Exception):
    """The second read went to the database: nothing about this library can be learned here."""


class Reader:
    """The cached view of the contestant that this process is."""

    def __init__(self) -> None:
        self.library = library()
        self._factory = APIRequestFactory()

    def read(self, view: str = "ListView") -> Any:
        """What a client gets at this moment."""
        response = getattr(self.library, view).as_view()(self._factory.get("/articles/"))
        if hasattr(response, "render"):
            response.render()
        return json.loads(response.content)


class Stage(Reader):
    """And its Valkey, and the database."""

    def __init__(self, server: Valkey, process: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.server = server
        self.process = process
        self._others: list[subprocess.Popen[str]] = []
        # Past Django, so that no library sees it.
        self.database = psycopg.connect(os.environ["CACHING_DATABASE_URL"], autocommit=True)

    def reset(self) -> None:
        """The rows as they are at first, an empty Redis, no transaction."""
        connections.close_all()
        self.database.execute(FILL)  # type: ignore[arg-type]
        self.redis().flushall()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url)

    def truth(self) -> Any:
        """What it should get."""
        row = self.database.execute(TRUTH).fetchone()  # type: ignore[arg-type]
        return row[0] if row and row[0] else []

    def warm(self, view: str = "ListView") -> None:
        """Have the read cached."""
        for _ in range(2):
            self.read(view)
        with statements() as seen:
            self.read(view)
        if seen:
            raise NotCachedError(seen[0])

    def is_fresh(self, view: str = "ListView") -> bool:
        """Right for the writer and for others, and right again when these answers have been cached."""
        read = partial(self.read, view)
        return all(answer == self.truth() for answer in (read(), read(), self.elsewhere(read), self.elsewhere(read)))

    def elsewhere(self, function: Callable[[], T]) -> T:
        """Run it in another thread, on database connections of its own."""
        return in_thread(function).result()

    def writer(self, fault: str) -> subprocess.Popen[str]:
        """A process that changes the title of the first article. See referee.py for its faults."""
        return _referee("write", fault)

    def reader(self) -> Callable[[], Any]:
        """Another process's `read`, which has read once."""
        process = _referee("read", "")
        self._others.append(process)

        def read() -> Any:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        read()
        return read

    def end(self) -> None:
        for process in (self.process, *self._others):
            process.kill()

    def kill_server(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def start_server(self) -> None:
        self.process = start(self.server)
        wait_until(self.server.is_ready, what="Valkey answers")


def _referee(what: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.caching.referee", what, argument],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


class in_thread:  # noqa: N801  (called like a function)
    """Start it in another thread; `result()` waits for it, and raises what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join()
        if self._error:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()


@contextmanager
def statements() -> Iterator[list[str]]:
    """What this thread sends to the database, in both aliases, in the body."""
    seen: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(note), connections["replica"].execute_wrapper(note):
        yield seen


@contextmanager
def around(part: str, *, before: Callable[[], Any] = bool, after: Callable[[], Any] = bool) -> Iterator[None]:
    """Call these around the first statement of this thread that contains `part`."""
    is_first = True

    def stop(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal is_first
        if part not in sql or not is_first:
            return execute(sql, params, many, context)
        is_first = False
        before()
        result = execute(sql, params, many, context)
        after()
        return result

    with connection.execute_wrapper(stop):
        yield


def computations(reader: Reader, threads: int, begin_at: float) -> int:
    """How often these threads ask the database for the articles when they all miss at once, at `begin_at`."""
    asked: list[str] = []

    def miss() -> None:
        connection.ensure_connection()
        time.sleep(max(0.0, begin_at - time.time()))
        with statements() as seen, around(ARTICLES, after=partial(time.sleep, SLOW_SECONDS)):
            reader.read()
        asked.extend(sql for sql in seen if ARTICLES in sql)

    for each in [in_thread(miss) for _ in range(threads)]:
        each.result()
    return len(asked)


def until_settled(stage: Stage, seconds: float, *reads: Callable[[], Any]) -> float | None:
    """Read for so long; since when every answer was right (0: from the start). None: not even in the end."""
    begun_at = time.monotonic()
    right_since: float | None = None
    while time.monotonic() < begun_at + seconds:
        if any(_answer(read) != stage.truth() for read in reads or (stage.read,)):
            right_since = None
        elif right_since is None:
            right_since = time.monotonic() - begun_at
        time.sleep(0.02)
    return right_since


def _answer(read: Callable[[], Any]) -> Any:
    """None if it raises: a library that refuses is not wrong, as long as it comes to itself."""
    with suppress(Exception):
        return read()
    return None
