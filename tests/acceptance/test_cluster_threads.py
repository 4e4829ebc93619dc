"""Threads are for requests, and connections for workers with a thread free."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.gunicorns import APPLICATION, Gunicorn, gunicorn

WORKERS = 2
THREADS = 2
ROUNDS = 6


@pytest.fixture
def arguments() -> tuple[str, ...]:
    return ()


@pytest.fixture
def server(tmp_path: Path, keys_of_one_test: str, arguments: tuple[str, ...]) -> Iterator[Gunicorn]:
    with gunicorn(
        tmp_path,
        keys_of_one_test,
        application=APPLICATION.format(boot_seconds=0),
        settings={"SCALING_KIT_CLUSTER_WORKERS": WORKERS, "SCALING_KIT_CLUSTER_THREADS": THREADS},
        arguments=arguments,
    ) as server:
        server.wait_for_workers(WORKERS)
        yield server


def test_as_many_slow_requests_as_there_are_threads__none_waits_for_another(server: Gunicorn) -> None:
    with ThreadPoolExecutor() as pool:
        shares = []
        for _ in range(ROUNDS):
            answers = [pool.submit(server.get, "/pid?0.5") for _ in range(WORKERS * THREADS)]
            shares.append(sorted(Counter(answer.result()[1] for answer in answers).values()))
    assert shares.count([THREADS] * WORKERS) >= ROUNDS - 1, "one round may meet a machine that is busy elsewhere"


def test_more_slow_requests_than_threads__all_are_answered(server: Gunicorn) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(server.get, ["/pid?0.2"] * 20))
    assert {status for status, _ in answers} == {200}
    assert len({pid for _, pid in answers}) == WORKERS


def test_connections_opened_in_advance__keep_nobody_waiting(server: Gunicorn) -> None:
    with ExitStack() as stack:
        early = [stack.enter_context(connect(server)) for _ in range(WORKERS * THREADS * 2)]
        time.sleep(0.2)  # all of them are let in
        with connect(server) as late:
            late.settimeout(3)  # stock gthread has it wait for 5 s
            assert ask(late).startswith(b"HTTP/1.1 200")
        for connection in early:
            assert ask(connection).startswith(b"HTTP/1.1 200"), "the early ones are served when they ask"


@pytest.mark.parametrize("arguments", [("--keep-alive", "0")])
def test_nothing_is_kept_alive__a_request_may_come_late(server: Gunicorn) -> None:
    with connect(server) as connection:
        time.sleep(1.5)  # longer than the worker goes without a look at its connections
        assert ask(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("arguments", [("--bind", "127.0.0.1:0")])
def test_two_addresses__both_are_left_and_watched_again(server: Gunicorn) -> None:
    [addresses] = re.findall("Listening at: (.*)", server.log)
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", addresses)]
    assert len(ports) == 2
    with ThreadPoolExecutor(40) as pool:
        for _ in range(3):
            busy = [pool.submit(ask_once, port, "0.1") for port in ports * 10]
            assert all(one.result().startswith(b"HTTP/1.1 200") for one in busy)
    assert "Traceback" not in server.log


def test_connections_opened_in_advance__do_not_keep_the_server_from_stopping(server: Gunicorn) -> None:
    with ExitStack() as stack:
        for _ in range(WORKERS * THREADS * 2):
            stack.enter_context(connect(server))
        assert ask(stack.enter_context(connect(server))).startswith(b"HTTP/1.1 200")
        server.process.terminate()
        assert server.process.wait(10) == 0  # they are kept for 2 s; the stock worker waits for GRACEFUL_SECONDS


def test_kept_connections_have_all_threads__a_new_one_is_served_too(server: Gunicorn) -> None:
    with ThreadPoolExecutor(WORKERS * THREADS * 3) as pool:
        busy = [pool.submit(keep_asking, server, 2.0) for _ in range(WORKERS * THREADS * 2)]
        time.sleep(0.5)
        with connect(server) as late:
            late.settimeout(1.4)  # before the others are done
            assert ask(late).startswith(b"HTTP/1.1 200")
        assert all(one.result() > 5 for one in busy)


def keep_asking(server: Gunicorn, seconds: float) -> int:
    """How often it was answered."""
    until = time.monotonic() + seconds
    number = 0
    with connect(server) as connection:
        while time.monotonic() < until:
            assert ask(connection, query="0.01").startswith(b"HTTP/1.1 200")
            number += 1
    return number


def ask_once(port: int, query: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return ask(connection, query)


def connect(server: Gunicorn) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def ask(connection: socket.socket, query: str = "") -> bytes:
    connection.sendall(f"GET /pid?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(4096)
        assert part, f"closed after {answer!r}"
        answer += part
    return answer
