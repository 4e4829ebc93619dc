"""The first level: what this process may believe without asking, and when not."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from scaling_kit import embedded
from scaling_kit.cache import cached, nearby, readings, tags
from scaling_kit.cache.readings import Address
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import running, wait_until

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


def test_many_changes__memory_of_them_is_bounded(level: nearby.Level) -> None:
    store()
    warm_up(level)
    level.changed(f"tag {number}" for number in range(nearby.MOST_CHANGES + 1))
    assert len(level._changed) == 1
    assert not is_near(level)


def test_forked__the_child_has_a_connection_of_its_own(level: nearby.Level) -> None:
    store()
    warm_up(level)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = nearby._level is not level and not is_near(nearby._level)
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
def redis_that_refuses(tmp_path: Path) -> Iterator[str]:
    server = embedded.Valkey(folder=tmp_path, port=embedded.free_port(), persistent=False)
    with running(server):
        client(Purpose.SCRIPT, server.url).execute_command("ACL", "SETUSER", "default", "-client|tracking")
        yield server.url


def test_tracking_refused__said_once_and_everything_goes_on(
    redis_that_refuses: str, level: nearby.Level, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(SCALING_KIT_CACHE_REDIS_URL=redis_that_refuses):
        store()
        assert [readings.read(HERE).payload for _ in range(5)] == [b"x"] * 5
    assert [record.levelname for record in caplog.records if "CLIENT TRACKING" in record.getMessage()] == ["WARNING"]
