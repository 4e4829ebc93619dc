"""The first level: what this process may believe without asking, and when not."""

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from scaling_kit import embedded
from scaling_kit.cache import cached, nearby, readings, tags, turns
from scaling_kit.cache.readings import Address
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import running, wait_until
from tests.jobs.proxy import Proxy
from tests.settings import REDIS_URL

HERE = Address(family="view", digest="here")


@pytest.fixture(autouse=True)
def level(settings: Any) -> nearby.Level:
    settings.SCALING_KIT_CACHE_NEARBY_BYTES = 100_000
    nearby._level = nearby.Level()
    return nearby._level


def store(payload: bytes = b"x", address: Address = HERE, seconds: float = 60) -> None:
    for _ in range(2):
        readings.store(address, readings.read(address), payload, {"a"}, timeout_seconds=seconds)


def is_near(level: nearby.Level, address: Address = HERE) -> bool:
    return level.find(address.digest) is not None


def warm_up(level: nearby.Level, address: Address = HERE) -> None:
    def is_warm() -> bool:
        readings.read(address)
        return is_near(level, address)

    wait_until(is_warm)


def mgets() -> int:
    return int(client(Purpose.SCRIPT).info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


def elsewhere(function: Callable[[], Any]) -> None:
    """As another process does: nobody here is told but by Redis."""
    listeners, tags.listeners[:] = list(tags.listeners), []
    try:
        function()
    finally:
        tags.listeners[:] = listeners


def test_read_again__redis_is_not_asked(level: nearby.Level) -> None:
    store()
    warm_up(level)
    before = mgets()
    assert [readings.read(HERE).payload for _ in range(100)] == [b"x"] * 100
    assert mgets() == before


def test_bumped_by_another__not_believed(level: nearby.Level) -> None:
    for _ in range(50):
        store()
        warm_up(level)
        elsewhere(lambda: tags.bump({"a"}))
        assert readings.read(HERE).payload is None


def test_bumped_by_this_process__known_before_redis_tells(level: nearby.Level) -> None:
    store()
    warm_up(level)
    level._receive = lambda: None  # type: ignore[method-assign]
    tags.bump({"a"})
    assert not is_near(level)


def test_other_tags_bumped__still_believed(level: nearby.Level) -> None:
    store()
    warm_up(level)
    elsewhere(lambda: tags.bump({"b"}))
    assert is_near(level)


@pytest.mark.parametrize("lost", ["flushed", "evicted"])
def test_redis_loses_a_tag__not_believed(level: nearby.Level, lost: str) -> None:
    store()
    warm_up(level)
    redis = client(Purpose.SCRIPT)
    if lost == "evicted":
        redis.delete(*tags.keys_of({"a"}))
    else:
        redis.flushdb()
    wait_until(lambda: not is_near(level))


def test_bumped_between_the_question_and_the_keeping__not_believed(level: nearby.Level) -> None:
    store()
    warm_up(level)
    moment = level.moment()
    reading = readings._ask(HERE)
    elsewhere(lambda: tags.bump({"a"}))
    wait_until(lambda: not is_near(level))  # another thread takes the push in
    level.keep(HERE.digest, reading, asked=moment, seconds=60)
    assert not is_near(level)


def test_bumped_while_this_process_connects__not_believed(level: nearby.Level, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_and_bump_first(stem: str) -> Any:
        nonlocal moment, reading
        moment, reading = level.moment(), readings._ask(HERE)
        elsewhere(lambda: tags.bump({"a"}))
        return connected(stem)

    store()
    level._disconnect()
    level._next_attempt = 0.0
    moment, reading, connected = 0, readings._ask(HERE), level._connected
    monkeypatch.setattr(level, "_connected", read_and_bump_first)
    assert not is_near(level)
    level.keep(HERE.digest, reading, asked=moment, seconds=60)
    assert reading.payload == b"x"
    assert not is_near(level)


@pytest.fixture
def line(level: nearby.Level) -> Iterator[Proxy]:
    """What the pushes come through, and nothing else."""
    with Proxy(REDIS_URL) as proxy:
        with override_settings(SCALING_KIT_CACHE_REDIS_URL=proxy.url):
            level.find(HERE.digest)  # connects
        yield proxy


def test_answer_to_a_ping_is_due__redis_is_asked(level: nearby.Level, line: Proxy) -> None:
    """While Redis writes it, it may write the reply to a bump before the push. So late pushes matter no longer."""
    store()
    time.sleep(0.1)  # until the proxy has passed on the pushes of that
    warm_up(level)
    with line.silent():
        elsewhere(lambda: tags.bump({"a"}))
        bumped_at = believed_at = time.monotonic()
        while time.monotonic() < bumped_at + nearby.SILENCE_SECONDS:
            if readings.read(HERE).payload is not None:
                believed_at = time.monotonic()
    assert believed_at - bumped_at < 2 * nearby.PING_SECONDS
    store()
    warm_up(level)


def test_pushes_are_late_and_reads_rare__believed_for_a_second_at_most(level: nearby.Level, line: Proxy) -> None:
    store()
    time.sleep(0.1)  # until the proxy has passed on the pushes of that
    warm_up(level)
    with line.silent():
        elsewhere(lambda: tags.bump({"a"}))
        time.sleep(nearby.SILENCE_SECONDS)
        assert readings.read(HERE).payload is None


def test_connection_is_dead__made_anew(level: nearby.Level, line: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearby, "DEAD_SECONDS", 0.5)
    store()
    warm_up(level)
    with line.silent():
        warm_up(level)
        first = level._connection
        wait_until(lambda: not is_near(level) and level._connection is not first)
        warm_up(level)


def test_computed_anew_by_another_before_its_end__not_once_more_here(level: nearby.Level) -> None:
    readings.store(HERE, readings.read(HERE), b"old", {"a"}, timeout_seconds=60)
    store(b"old")
    warm_up(level)
    near = readings.read(HERE)
    readings.store(HERE, readings.read(HERE, near=False), b"new", {"a"}, timeout_seconds=90)
    assert readings.read(HERE).payload == b"old", "near, and as right as the new one"
    with turns.take(HERE, near, wait=False) as turn:  # as whoever finds that it is due
        assert turn.reading.payload == b"new"
    assert readings.read(HERE).payload == b"new"


def test_process_stops_reading__redis_lets_it_go(valkey_of_its_own: embedded.Valkey, level: nearby.Level) -> None:
    redis = client(Purpose.SCRIPT, valkey_of_its_own.url)
    redis.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    with override_settings(SCALING_KIT_CACHE_REDIS_URL=valkey_of_its_own.url):
        store()
        warm_up(level)
        many = dict.fromkeys(tags.keys_of("long" * 100 + str(number) for number in range(500)), 1)

        def is_gone() -> bool:
            redis.mset(many)
            return not any("B" in one["flags"] for one in redis.client_list())

        wait_until(is_gone)
        elsewhere(lambda: tags.bump({"a"}))
        assert readings.read(HERE).payload is None


def test_connection_cut__not_believed_and_back_a_moment_later(level: nearby.Level) -> None:
    store()
    warm_up(level)
    redis = client(Purpose.SCRIPT)
    own = redis.client_list()
    for one in own:
        if "t" in one["flags"] or "B" in one["flags"]:
            redis.client_kill_filter(_id=one["id"])
    wait_until(lambda: not is_near(level))
    warm_up(level)


def test_redis_silent__believed_for_a_second_at_most(level: nearby.Level) -> None:
    store()
    warm_up(level)
    level._receive = lambda: None  # type: ignore[method-assign]  # what arrives is not taken in
    elsewhere(lambda: tags.bump({"a"}))
    assert is_near(level)
    time.sleep(nearby.SILENCE_SECONDS + 0.1)
    assert not is_near(level)


def test_idle_for_long__asks_first(level: nearby.Level) -> None:
    store()
    warm_up(level)
    time.sleep(nearby.SILENCE_SECONDS + 0.1)
    before = mgets()
    assert readings.read(HERE).payload == b"x"
    assert mgets() == before + 1


def test_end_of_the_entry__is_its_end_here(level: nearby.Level) -> None:
    store(seconds=0.5)
    warm_up(level)
    time.sleep(0.5)
    assert not is_near(level)


def test_memory__is_bounded_and_the_least_used_go_first(level: nearby.Level) -> None:
    addresses = [Address(family="view", digest=str(number)) for number in range(30)]
    for address in addresses:
        store(b"x" * 8000, address)
        warm_up(level, address)
        warm_up(level, addresses[0])
    assert level._bytes <= 100_000
    assert is_near(level, addresses[0])
    assert is_near(level, addresses[-1])
    assert not is_near(level, addresses[1])
    store(b"x" * 50_000)
    readings.read(HERE)
    assert not is_near(level), "one entry does not push the others out"


@pytest.mark.parametrize("payload_bytes", [100, 5000])
def test_memory__is_counted_with_what_entries_take_besides(
    level: nearby.Level, settings: Any, payload_bytes: int
) -> None:
    settings.SCALING_KIT_CACHE_NEARBY_BYTES = 10**8
    store()
    warm_up(level)
    tracemalloc.start()
    try:
        for number in range(1000):
            names = tuple("table.library_book_and_something_" + str(of) for of in range(8))
            header = readings.Header(number + 10**15, time.time() + 60, 0.0, 0.1, names)
            reading = readings.Reading(
                sequence=header.sequence, asked_at=float(number), payload=os.urandom(payload_bytes), header=header
            )
            level.keep(f"{number:064}", reading, asked=level.moment(), seconds=60)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * level._bytes < taken < 1.1 * level._bytes


def test_many_changes__memory_of_them_is_bounded(level: nearby.Level) -> None:
    store()
    warm_up(level)
    level.changed(f"tag {number}" for number in range(nearby.MOST_CHANGES + 1))
    assert len(level._changed) == 1
    assert not is_near(level)


def is_closed(descriptor: int) -> bool:
    """Else Redis would believe that the parent listens when it has died."""
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def test_forked__the_child_has_a_connection_of_its_own(level: nearby.Level) -> None:
    store()
    warm_up(level)
    reading, writing = os.pipe()
    inherited = level._socket().fileno()
    child = os.fork()
    if child == 0:
        found = nearby._level is not level and is_closed(inherited) and not is_near(nearby._level)
        warm_up(nearby._level)
        elsewhere(lambda: tags.bump({"a"}))
        found = found and readings.read(HERE).payload is None
        os.write(writing, b"1" if found else b"0")
        os._exit(0)
    assert os.read(reading, 1) == b"1"
    os.waitpid(child, 0)
    assert readings.read(HERE).payload is None
    store()
    warm_up(level)


def test_many_threads__nobody_reads_what_was_bumped_before(level: nearby.Level) -> None:
    def read(_: int) -> int:
        asked = versions[-1]
        payload = readings.read(HERE).payload
        return 1 if payload is not None and int(payload) < asked else 0

    versions = [0]
    store(b"0")
    with ThreadPoolExecutor(8) as pool:
        stale = 0
        for version in range(1, 60):
            stale += sum(pool.map(read, range(20)))
            elsewhere(lambda: tags.bump({"a"}))
            versions.append(version)
            readings.store(HERE, readings.read(HERE), str(version).encode(), {"a"}, timeout_seconds=60)
    assert stale == 0


def test_function_forgets_one_entry__in_every_process(level: nearby.Level) -> None:
    calls: list[int] = []

    @cached()
    def number(of: int) -> int:
        calls.append(of)
        return len(calls)

    def is_warm() -> bool:
        number(1)
        return is_near(level, number._address((1,), {}))

    wait_until(is_warm)
    known = number(1)
    elsewhere(lambda: number.forget(1))
    assert number(1) == known + 1


@pytest.fixture
def valkey_of_its_own(tmp_path: Path) -> Iterator[embedded.Valkey]:
    server = embedded.Valkey(folder=tmp_path, port=embedded.free_port(), persistent=False)
    with running(server):
        yield server


@pytest.mark.parametrize("command", ["client|tracking", "subscribe"])
def test_refused__said_once_and_everything_goes_on(
    valkey_of_its_own: embedded.Valkey, level: nearby.Level, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    client(Purpose.SCRIPT, valkey_of_its_own.url).execute_command("ACL", "SETUSER", "default", f"-{command}")
    with override_settings(SCALING_KIT_CACHE_REDIS_URL=valkey_of_its_own.url):
        store()
        assert [readings.read(HERE).payload for _ in range(5)] == [b"x"] * 5
    assert [record.levelname for record in caplog.records if "CLIENT TRACKING" in record.getMessage()] == ["WARNING"]


def test_pushes_are_late_while_something_is_computed__nothing_old_is_stored_in_it(
    level: nearby.Level, line: Proxy
) -> None:
    """It would have the sequence of now, with which it is believed until its timeout, by everyone."""
    weather = "rain"

    @cached(depends_on=["weather"])
    def inner() -> str:
        return weather

    @cached()
    def outer() -> str:
        return inner()

    def is_warm() -> bool:
        inner()
        return is_near(level, inner._address((), {}))

    inner()
    time.sleep(0.1)  # until the proxy has passed on the pushes of that
    wait_until(is_warm)
    with line.silent():
        weather = "sun"
        elsewhere(lambda: tags.bump(tags.of("weather")))
        outer()
    wait_until(lambda: inner() == "sun")
    assert outer() == "sun"


def test_forked_while_it_disconnects__the_child_has_a_level_of_its_own(level: nearby.Level) -> None:
    store()
    warm_up(level)
    connection = level._connection
    assert connection is not None
    kept, connection._sock = connection._sock, None
    child = os.fork()
    if child == 0:
        os._exit(0 if nearby._level is not level else 1)
    connection._sock = kept
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_much_has_piled_up__the_rest_is_waited_for(level: nearby.Level) -> None:
    """More than the buffers of the sockets hold: then the push is not yet written when the reply to the bump is."""
    store()
    many = dict.fromkeys(tags.keys_of("long" * 50 + str(number) for number in range(9000)), 1)
    redis = client(Purpose.SCRIPT)
    for _ in range(5):
        store()
        warm_up(level)
        for _ in range(4):
            redis.mset(many)
        elsewhere(lambda: tags.bump({"a"}))
        assert not is_near(level)
