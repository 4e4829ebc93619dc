"""The one place that opens Redis and spells keys.

redis-py's defaults suit none of the kit's uses: a 5 s socket timeout kills blocking reads, ten silent retries
double writes that are not idempotent, and a server that hangs costs a request 58 s. So a client is made for a
purpose, one per process, and is made anew in a forked child.
"""

from __future__ import annotations

import enum
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from scaling_kit.conf import settings

T = TypeVar("T")

RedisError = redis.RedisError
ConnectionFailures = (redis.ConnectionError, redis.TimeoutError)

BREAKER_SECONDS = 0.5
# Calls of a script in one round trip: 1 MB or so of small ones.
PER_ROUND_TRIP = 500


class CircuitOpenError(redis.ConnectionError):
    """Redis did not answer a moment ago; the next attempt is made when the circuit breaker closes again."""


class UnreachableError(Exception):
    """Redis cannot be reached."""


class Purpose(enum.Enum):
    """What a client is for. The values are redis-py connection options, times in seconds."""

    REQUEST = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}
    """In the path of a web request: answers or fails within 0.1 s, never retries, behind a circuit breaker."""

    BLOCKING = {"socket_timeout": None, "socket_connect_timeout": 2.0, "health_check_interval": 15}
    """Blocking reads and subscriptions: waits as long as the command says."""

    SCRIPT = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
    """Background work. Does not retry by itself: an idempotent `Script` does."""


class _GuardedRedis(redis.Redis):
    """A client that, after a connection failure, fails at once for half a second instead of waiting again.

    Guards single commands and scripts; a pipeline passes unguarded.
    """

    _open_until = 0.0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if time.monotonic() < self._open_until:
            raise CircuitOpenError(f"Redis was unreachable less than {BREAKER_SECONDS} s ago")
        try:
            return self._attempt(*args, **options)
        except ConnectionFailures:
            self._open_until = time.monotonic() + BREAKER_SECONDS
            raise

    def _attempt(self, *args: Any, **options: Any) -> Any:
        # redis-py's own way has retries and metrics: 8 of 32 µs on the loopback.
        connection = self.connection_pool.get_connection()
        try:
            connection.send_command(*args)  # type: ignore[no-untyped-call]
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        finally:
            self.connection_pool.release(connection)


OnConnect = Callable[[redis.Connection], None]

_clients: dict[tuple[int, Purpose, str, bool, OnConnect | None], redis.Redis] = {}
_of_the_parent: list[object] = []
_lock = threading.Lock()


def client(purpose: Purpose, url: str = "", *, decode: bool = True, on_connect: OnConnect | None = None) -> redis.Redis:
    """The process's client for a purpose; `url` defaults to SCALING_KIT_REDIS_URL.

    Replies are `str`, or `bytes` with `decode=False`. `on_connect` is called with each new connection before its
    first command, and the connection fails if it raises. Raises `ValueError` for a URL of an unknown scheme.
    """
    cache_key = (os.getpid(), purpose, url or settings.REDIS_URL, decode, on_connect)
    with _lock:
        if cache_key not in _clients:
            _clients[cache_key] = _connect(purpose, cache_key[2], decode=decode, on_connect=on_connect)
        return _clients[cache_key]


def async_client(purpose: Purpose, url: str = "", *, decode: bool = True) -> redis.asyncio.Redis:
    """A new asyncio client for a purpose. The caller keeps it for the life of its event loop, and closes it."""
    return redis.asyncio.Redis.from_url(
        url or settings.REDIS_URL, decode_responses=decode, retry=AsyncRetry(NoBackoff(), 0), **purpose.value
    )


def _connect(purpose: Purpose, url: str, *, decode: bool, on_connect: OnConnect | None) -> redis.Redis:
    cls = _GuardedRedis if purpose is Purpose.REQUEST else redis.Redis
    options = dict(purpose.value)
    if on_connect is not None:
        options["redis_connect_func"] = partial(_greet, on_connect)
    return cls.from_url(url, decode_responses=decode, retry=Retry(NoBackoff(), 0), **options)


def _greet(on_connect: OnConnect, connection: redis.Connection) -> None:
    connection.on_connect()  # type: ignore[no-untyped-call]  # redis-py's own: authentication, database, name
    on_connect(connection)


def _forget_clients_of_the_parent() -> None:
    global _lock, _clients
    _lock = threading.Lock()  # the parent may have held it at the moment of the fork
    # Kept, and never touched: a client that is collected closes its pool, whose lock another thread of the parent may
    # have held at that moment, and which nobody here would ever release.
    _of_the_parent.append(_clients)
    _clients = {}


os.register_at_fork(after_in_child=_forget_clients_of_the_parent)


def key(room: str, *parts: object) -> str:
    """Spell a key: `sk:{room}:part:part`. The braces keep a room in one slot of a Redis Cluster."""
    return ":".join([f"{settings.KEY_PREFIX}:{{{room}}}", *map(str, parts)])


ScriptCall = tuple[Sequence[str], Sequence[Any]]
"""Keys and arguments of a call."""


class Script:
    """A Lua script, kept in a `.lua` file beside the module that uses it.

    With `idempotent=True` a call whose reply was lost is repeated twice: the script must answer a repetition as
    it answered the first call.
    """

    def __init__(self, source: str, *, idempotent: bool = False) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self.attempts = 3 if idempotent else 1

    @classmethod
    def beside(cls, module_file: str, name: str, *, idempotent: bool = False, after: str = "") -> Script:
        """Load `name`.lua from the folder of `module_file` (pass `__file__`); `after` names one to put in front."""
        names = [after, name] if after else [name]
        sources = [Path(module_file).with_name(f"{part}.lua").read_text() for part in names]
        return cls("\n".join(sources), idempotent=idempotent)

    def __call__(self, client: redis.Redis, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        return self._insist(lambda: self._evaluate(client, keys, args))

    def call_many(self, client: redis.Redis, calls: Sequence[ScriptCall], *, raise_on_error: bool = True) -> list[Any]:
        """Answer several calls in their order, 500 in one round trip; not atomic together.

        If this raises, some of the first ones may have been executed. With `raise_on_error=False` an answer may be a
        `redis.ResponseError`.
        """
        answers: list[Any] = []
        for start in range(0, len(calls), PER_ROUND_TRIP):
            some = calls[start : start + PER_ROUND_TRIP]
            answers += self._insist(partial(self._evaluate_many, client, some, raise_on_error))
        return answers

    def _insist(self, evaluate: Callable[[], T]) -> T:
        for attempt in range(1, self.attempts + 1):
            try:
                return evaluate()
            except CircuitOpenError:
                raise
            except ConnectionFailures:
                if attempt == self.attempts:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def acall(self, client: redis.asyncio.Redis, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        """The same for an asyncio client; never repeated, the caller's loop decides."""
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return await client.eval(self.source, len(keys), *keys, *args)

    def _evaluate_many(self, client: redis.Redis, calls: Sequence[ScriptCall], raise_on_error: bool) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.script_load(self.source)  # a look-up if it is there, and never a round trip more
        for keys, args in calls:
            pipeline.evalsha(self.sha, len(keys), *keys, *args)
        answers: list[Any] = pipeline.execute(raise_on_error=raise_on_error)
        return answers[1:]

    def _evaluate(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return client.eval(self.source, len(keys), *keys, *args)


def ensure_reachable(url: str = "") -> None:
    """Raise `UnreachableError`, with one line that names the server, unless Redis answers within 2 s."""
    url = url or settings.REDIS_URL
    try:
        with redis.Redis.from_url(
            url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        ) as connection:
            connection.ping()
    except (RedisError, ValueError, OSError) as error:
        raise UnreachableError(f"Redis at {redacted(url)} cannot be used: {error}") from error


def redacted(url: str) -> str:
    """The URL without its password, for messages and logs."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
