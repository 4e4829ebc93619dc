"""The first level between real processes: stopped, cut off, with threads, and one whose parent was killed."""

import os
import signal
import time

from scaling_kit.embedded import Valkey
from scaling_kit.testing import running, wait_until
from tests.acceptance.cache_processes import Reader, StartReaders, is_hit, redis_of

NEARBY = {"NEARBY_BYTES": 10**6}


def listeners(server: Valkey) -> list[str]:
    return [one["id"] for one in redis_of(server).client_list() if "B" in one["flags"]]


def is_near(reader: Reader, server: Valkey) -> bool:
    """Served without a question to Redis."""

    def mgets() -> int:
        return int(redis_of(server).info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])

    before = mgets()
    return is_hit(reader) and mgets() == before


def test_stopped_while_another_writes__knows_of_it_when_it_goes_on(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        writer, other = readers(2, **NEARBY)
        for number, seconds in enumerate([0.0, 0.1, 0.3, 1.2]):
            wait_until(lambda: is_near(other, valkey_of_its_own))
            other.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            writer.do(f"write title-{number}")
            other.process.send_signal(signal.SIGCONT)
            assert other.do("read")["titles"] == [f"title-{number}"]


def test_connection_of_the_pushes_cut__never_stale_and_soon_back(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        writer, other = readers(2, **NEARBY)
        for number in range(3):
            wait_until(lambda: is_near(other, valkey_of_its_own))
            for one in listeners(valkey_of_its_own):
                redis_of(valkey_of_its_own).client_kill_filter(_id=one)
            writer.do(f"write title-{number}")
            assert other.do("read")["titles"] == [f"title-{number}"]


def test_redis_stopped__bypassed_at_once(readers: StartReaders, valkey_of_its_own: Valkey) -> None:
    with running(valkey_of_its_own):
        [reader] = readers(1, **NEARBY)
        wait_until(lambda: is_near(reader, valkey_of_its_own))
    assert reader.do("read")["status"] == "bypass;redis"
    with running(valkey_of_its_own):
        wait_until(lambda: is_near(reader, valkey_of_its_own))


def test_killed__its_redis_has_no_listener_left(readers: StartReaders, valkey_of_its_own: Valkey) -> None:
    with running(valkey_of_its_own):
        [reader] = readers(1, **NEARBY)
        wait_until(lambda: is_near(reader, valkey_of_its_own))
        child = reader.do("fork")
        try:
            reader.kill()
            wait_until(lambda: listeners(valkey_of_its_own) == [])
        finally:
            os.kill(child, signal.SIGKILL)
