"""The cache between real processes, and with Redis stopped, paused, restarted and rewound."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from scaling_kit import embedded
from scaling_kit.embedded import Valkey
from scaling_kit.testing import die_with_parent, running, start, wait_until
from tests.library.models import Author, Book

ROOT = Path(__file__).parents[2]


class Reader:
    """One process of `cache_reader.py`."""

    def __init__(self, prefix: str, redis_url: str) -> None:
        database = connection.settings_dict
        url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.cache_reader", prefix, redis_url],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def do(self, command: str) -> Any:
        self.tell(command)
        return self.answer()

    def wait_until_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def valkey_of_its_own(tmp_path: Path) -> Valkey:
    return Valkey(folder=tmp_path, port=embedded.free_port(), persistent=False)


@pytest.fixture
def readers(
    transactional_db: None, keys_of_one_test: str, valkey_of_its_own: Valkey
) -> Iterator[Callable[[int], list[Reader]]]:
    Book.objects.create(title="old", author=Author.objects.create(name="Ursula"))

    with ExitStack() as stack:

        def start_readers(number: int) -> list[Reader]:
            started = [Reader(keys_of_one_test, valkey_of_its_own.url) for _ in range(number)]
            for reader in started:
                stack.callback(reader.kill)
            for reader in started:
                reader.wait_until_ready()
            return started

        yield start_readers


def is_hit(reader: Reader) -> bool:
    return bool(reader.do("read")["status"] == "hit")


def test_stored_by_one_process__served_by_another_until_a_third_writes(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        first, second, writer = readers(3)
        wait_until(lambda: is_hit(first))
        found = second.do("read")
        assert (found["status"], found["computed"]) == ("hit", 0)
        for number in range(5):
            writer.do(f"write title-{number}")
            assert [second.do("read")["titles"], first.do("read")["titles"]] == [[f"title-{number}"]] * 2


def test_cold_key_in_four_processes__one_computation(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        processes = readers(4)
        wait_until(lambda: all(is_hit(process) for process in processes))
        before = sum(process.do("read")["computed"] for process in processes)
        processes[0].do("write new")
        for process in processes:
            process.do("slow")
        for process in processes:
            process.tell("read")
        answers = [process.answer() for process in processes]
        assert sorted(answer["status"] for answer in answers) == ["hit", "hit", "hit", "miss"]
        assert sum(answer["computed"] for answer in answers) == before + 1
        assert all(answer["titles"] == ["new"] for answer in answers)


def test_computing_process_killed__the_others_wait_no_longer_than_the_lease(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        victim, other = readers(2)
        wait_until(lambda: is_hit(other))
        other.do("write new")
        victim.do("slow")
        victim.tell("read")
        wait_until(lambda: _claims(valkey_of_its_own))
        victim.kill()
        answer = other.do("read")
        assert answer["titles"] == ["new"]
        assert answer["seconds"] < 5


def test_redis_stopped_and_started__database_meanwhile_and_nothing_stale_after(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        writer, other = readers(2)
        wait_until(lambda: is_hit(other))
    assert writer.do("write meanwhile") == 1
    for reader in (writer, other):
        answer = reader.do("read")
        assert (answer["status"], answer["titles"]) == ("bypass;redis", ["meanwhile"])
        assert answer["seconds"] < 2
    with running(valkey_of_its_own):
        wait_until(lambda: is_hit(other))
        assert other.do("read")["titles"] == ["meanwhile"]


def test_redis_hangs__bump_is_sent_when_it_goes_on(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey
) -> None:
    """The server keeps its data and its identity: only the bump that is sent later can tell the other process."""
    with running(valkey_of_its_own) as server:
        writer, other = readers(2)
        wait_until(lambda: is_hit(other))
        server.send_signal(signal.SIGSTOP)
        assert writer.do("write meanwhile") == 1
        answer = writer.do("read")
        assert (answer["status"], answer["titles"]) == ("bypass;redis", ["meanwhile"])
        server.send_signal(signal.SIGCONT)
        wait_until(lambda: other.do("read")["titles"] == ["meanwhile"])
        wait_until(lambda: is_hit(writer))


def test_redis_rewound_to_before_a_bump__entries_of_then_not_believed(
    readers: Callable[[int], list[Reader]], valkey_of_its_own: Valkey, tmp_path: Path
) -> None:
    with running(valkey_of_its_own) as server:
        writer, other = readers(2)
        wait_until(lambda: is_hit(other))
        _redis(valkey_of_its_own).save()
        writer.do("write new")
        server.kill()  # what came after the save is lost, the bump among it
        server.wait()
    process = start(valkey_of_its_own)
    try:
        wait_until(valkey_of_its_own.is_ready)
        assert _redis(valkey_of_its_own).exists(*_redis(valkey_of_its_own).keys("*entry*")), "the stale entry is back"
        wait_until(lambda: is_hit(other))
        assert other.do("read")["titles"] == ["new"]
    finally:
        process.kill()
        process.wait()


def _redis(server: Valkey) -> Any:
    import redis

    return redis.Redis.from_url(server.url)


def _claims(server: Valkey) -> list[bytes]:
    return list(_redis(server).scan_iter("*claim*"))
