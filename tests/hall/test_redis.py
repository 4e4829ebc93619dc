import os
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest
import redis

from scaling_kit.embedded import Valkey, free_port
from scaling_kit.redis import (
    CircuitOpenError,
    Purpose,
    Script,
    UnreachableError,
    client,
    ensure_reachable,
    redacted,
)
from scaling_kit.testing import running, start, wait_until


def test_url__shown_without_its_password() -> None:
    assert redacted("redis://user:secret@host:6379/0") == "redis://user:***@host:6379/0"
    assert redacted("redis://host/0") == "redis://host/0"


def test_unreachable__one_line_that_names_the_server() -> None:
    port = free_port()
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}") as caught:
        ensure_reachable(f"redis://:secret@127.0.0.1:{port}/0")
    assert "secret" not in str(caught.value)


def test_forked_child__has_clients_of_its_own() -> None:
    client(Purpose.SCRIPT).ping()
    child = os.fork()
    if child == 0:
        os._exit(0 if client(Purpose.SCRIPT).ping() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client(Purpose.SCRIPT).ping()


def test_hung_server__fails_fast_then_at_once_then_recovers(tmp_path: Path) -> None:
    server = Valkey(folder=tmp_path, port=free_port(), persistent=False)
    with running(server) as process:
        redis_client = client(Purpose.REQUEST, server.url)
        redis_client.ping()
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                redis_client.ping()
            with pytest.raises(CircuitOpenError):
                redis_client.ping()
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: _answers(redis_client))


def test_restarted_server__script_is_loaded_again(tmp_path: Path) -> None:
    server = Valkey(folder=tmp_path, port=free_port(), persistent=False)
    script = Script("return ARGV[1]", idempotent=True)
    with running(server):
        assert script(client(Purpose.SCRIPT, server.url), args=["one"]) == "one"
    process = start(server)
    try:
        wait_until(server.is_ready)
        assert script(client(Purpose.SCRIPT, server.url), args=["two"]) == "two"
    finally:
        process.kill()
        process.wait()


def _answers(redis_client: redis.Redis) -> bool:
    try:
        return bool(redis_client.ping())
    except redis.RedisError:
        time.sleep(0.05)
        return False


def test_fork_while_another_thread_holds_a_pool__the_child_does_not_wait_for_it() -> None:
    """A worker forks for a job while its heartbeat is in a pool; a child that waited would never end."""
    pool, held, done = client(Purpose.SCRIPT).connection_pool, threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: that is what this is about
        child = os.fork()
    if child == 0:
        os._exit(0 if client(Purpose.SCRIPT).ping() else 1)
    try:
        ended, status = wait_until(lambda: (found := os.waitpid(child, os.WNOHANG))[0] and found, timeout_seconds=5)
        assert (ended, status) == (child, 0)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        done.set()
        thread.join()
