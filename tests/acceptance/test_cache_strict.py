"""Strict mode between real processes: writers killed at the worst moment, Redis away, hung and rewound.

The same in the default mode leaves an entry that is stale until its timeout: that these tests can fail.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from scaling_kit.cache.models import PendingBump
from scaling_kit.embedded import Valkey
from scaling_kit.testing import running, start, wait_until
from tests.acceptance.cache_processes import Reader, StartReaders, claims, is_hit, redis_of
from tests.library.models import Book

MARK_SECONDS = 1.0
SWEEP_SECONDS = 0.5
STRICT = {"STRICT": True, "MARK_SECONDS": MARK_SECONDS, "OUTBOX_SECONDS": SWEEP_SECONDS}
LONG = {**STRICT, "MARK_SECONDS": 60.0}
DEFAULT = {"STRICT": False}
NOBODY = "redis://127.0.0.1:1/0"


def seconds_of(writer: Reader, command: str) -> float:
    started_at = time.monotonic()
    assert writer.do(command) == 1, "no write fails because of Redis"
    return time.monotonic() - started_at


def reads(reader: Reader, seconds: float) -> list[tuple[str, str]]:
    """What it is served meanwhile: hit or not, and the title."""
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = reader.do("read")
        found.append((answer["status"], answer["titles"][0]))
    return found


@pytest.mark.parametrize(
    ("mode", "write"),
    [(STRICT, "write"), (STRICT, "write_at_once"), (DEFAULT, "write")],
    ids=["strict", "strict, autocommit", "default"],
)
def test_f_writer_killed_between_commit_and_bump__with_a_reader_filling_meanwhile(
    readers: StartReaders, valkey_of_its_own: Valkey, mode: dict[str, Any], write: str
) -> None:
    with running(valkey_of_its_own):
        writer, filler, other = readers(3, **mode)
        wait_until(lambda: is_hit(other))
        writer.do("write older")
        filler.do("slow 0.3")
        filler.tell("read")
        wait_until(lambda: claims(valkey_of_its_own))
        time.sleep(0.1)  # it has read the data by now, and stores it after the COMMIT
        writer.do("halt")
        assert writer.do(f"{write} new") == "committed"
        assert filler.answer()["titles"] == ["older"], "as it was when it began"
        writer.kill()
        assert Book.objects.get().title == "new"
        served = reads(other, 0.3)
        if mode is DEFAULT:
            assert set(served) == {("hit", "older")}, "for good"
            return
        assert not [status for status, _ in served if status == "hit"], "the mark is there"
        assert {title for _, title in served} == {"new"}
        wait_until(lambda: is_hit(other), timeout_seconds=2 * MARK_SECONDS)
        assert other.do("read")["titles"] == ["new"]


@contextmanager
def commits_take(seconds: float) -> Iterator[None]:
    """Those of changed books, in the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql "
            f"AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON library_book "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION dawdle CASCADE")


@pytest.mark.parametrize("write", ["write", "write_at_once"])
def test_commit_longer_than_the_deadline_and_writer_killed_after_it__not_stale(
    readers: StartReaders, valkey_of_its_own: Valkey, write: str
) -> None:
    with running(valkey_of_its_own), commits_take(2.2 * MARK_SECONDS):
        writer, other = readers(2, **STRICT)
        wait_until(lambda: is_hit(other))
        writer.do("halt")
        writer.tell(f"{write} new")
        wait_until(lambda: not is_hit(other))
        served = reads(other, 1.8 * MARK_SECONDS)
        assert set(served) == {("bypass;commit", "old")}, "it is committing"
        assert writer.answer() == "committed"
        writer.kill()
        assert set(reads(other, 0.3)) == {("bypass;commit", "new")}
        wait_until(lambda: is_hit(other), timeout_seconds=2 * MARK_SECONDS)
        assert other.do("read")["titles"] == ["new"]


@pytest.mark.parametrize("mode", [STRICT, DEFAULT], ids=["strict", "default"])
def test_redis_away_for_a_writer_that_is_killed__the_others_sweep_its_outbox(
    readers: StartReaders, valkey_of_its_own: Valkey, keys_of_one_test: str, mode: dict[str, Any]
) -> None:
    with running(valkey_of_its_own):
        other, another = readers(2, **mode)
        writer = Reader(keys_of_one_test, NOBODY, **mode)
        writer.wait_until_ready()
        wait_until(lambda: is_hit(other) and is_hit(another))
        for command in ("write new", "write_at_once newer"):
            assert writer.do(command) == 1, "no write fails because of Redis"
        writer.kill()
        committed_at = time.monotonic()
        assert PendingBump.objects.count() == (2 if mode is STRICT else 0)
        served = reads(other, SWEEP_SECONDS + 0.3) + reads(another, 0.1)
        if mode is DEFAULT:
            assert set(served) == {("hit", "old")}, "for good"
            return
        stale = [title for _, title in served].count("old")
        assert {title for _, title in served[stale:]} == {"newer"}
        assert time.monotonic() > committed_at + SWEEP_SECONDS
        assert served[-1] == ("hit", "newer")
        assert not PendingBump.objects.exists()


def test_redis_hangs_in_mark_and_in_bump__written_at_once_and_right_when_it_goes_on(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    """Marks last longer than the test: what is released was released by the writer."""
    with running(valkey_of_its_own) as server:
        writer, other = readers(2, **LONG)
        wait_until(lambda: is_hit(other))
        server.send_signal(signal.SIGSTOP)
        assert seconds_of(writer, "write new") < 1
        assert PendingBump.objects.count() == 1
        assert other.do("read")["titles"] == ["new"]
        server.send_signal(signal.SIGCONT)
        wait_until(lambda: is_hit(other, "new"))
        wait_until(lambda: other.do("read") and not PendingBump.objects.exists())

        wait_until(lambda: is_hit(other, "new"))
        writer.do("halt")
        assert writer.do("write newer") == "committed"
        server.send_signal(signal.SIGSTOP)
        assert seconds_of(writer, "go on") < 1
        assert not PendingBump.objects.exists(), "Redis has the marks"
        assert other.do("read")["titles"] == ["newer"]
        server.send_signal(signal.SIGCONT)
        wait_until(lambda: is_hit(other, "newer"))


def test_redis_rewound_to_before_mark_and_bump__entries_of_then_not_believed(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own) as server:
        writer, other = readers(2, **LONG)
        wait_until(lambda: is_hit(other))
        redis_of(valkey_of_its_own).save()
        writer.do("write new")
        writer.do("halt")
        assert writer.do("write newer") == "committed"
        server.kill()
        server.wait()
        writer.kill()
    process = start(valkey_of_its_own)
    try:
        wait_until(valkey_of_its_own.is_ready)
        assert redis_of(valkey_of_its_own).exists(*redis_of(valkey_of_its_own).keys("*entry*")), (
            "the stale entry is back"
        )
        served = reads(other, 0.3)
        assert {title for _, title in served} == {"newer"}
        wait_until(lambda: is_hit(other))
    finally:
        process.kill()
        process.wait()


def test_strict__nobody_reads_what_is_older_than_the_last_commit(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        writer, *others = readers(3, **STRICT)
        writer.do("write 0")
        writer.tell("publish 1")
        for other in others:
            other.tell("soak 1")
        found = [other.answer() for other in others]
        assert writer.answer() > 10
        assert all(each["stale"] == 0 and each["hits"] for each in found), found
