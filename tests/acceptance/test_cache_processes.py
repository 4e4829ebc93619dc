"""The cache between real processes, and with Redis stopped, paused, restarted and rewound."""

import signal
from pathlib import Path

from scaling_kit.embedded import Valkey
from scaling_kit.testing import running, start, wait_until
from tests.acceptance.cache_processes import StartReaders, claims, is_hit, redis_of


def test_stored_by_one_process__served_by_another_until_a_third_writes(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        first, second, writer = readers(3)
        wait_until(lambda: is_hit(first))
        found = second.do("read")
        assert (found["status"], found["computed"]) == ("hit", 0)
        for number in range(5):
            writer.do(f"write title-{number}")
            assert [second.do("read")["titles"], first.do("read")["titles"]] == [[f"title-{number}"]] * 2


def test_cold_key_in_four_processes__one_computation(readers: StartReaders, valkey_of_its_own: Valkey) -> None:
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


def test_written_and_read_at_once__nobody_reads_what_is_older_than_the_last_commit(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        writer, *others = readers(4)
        writer.do("write 0")
        writer.tell("publish 3")
        for other in others:
            other.tell("soak 3")
        found = [other.answer() for other in others]
        assert writer.answer() > 10
        assert all(each["stale"] == 0 and each["hits"] for each in found), found


def test_computing_process_killed__the_others_wait_no_longer_than_the_lease(
    readers: StartReaders, valkey_of_its_own: Valkey
) -> None:
    with running(valkey_of_its_own):
        victim, other = readers(2)
        wait_until(lambda: is_hit(other))
        other.do("write new")
        victim.do("slow")
        victim.tell("read")
        wait_until(lambda: claims(valkey_of_its_own))
        victim.kill()
        answer = other.do("read")
        assert answer["titles"] == ["new"]
        assert answer["seconds"] < 5


def test_redis_stopped_and_started__database_meanwhile_and_nothing_stale_after(
    readers: StartReaders, valkey_of_its_own: Valkey
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


def test_redis_hangs__bump_is_sent_when_it_goes_on(readers: StartReaders, valkey_of_its_own: Valkey) -> None:
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
    readers: StartReaders, valkey_of_its_own: Valkey, tmp_path: Path
) -> None:
    with running(valkey_of_its_own) as server:
        writer, other = readers(2)
        wait_until(lambda: is_hit(other))
        redis_of(valkey_of_its_own).save()
        writer.do("write new")
        server.kill()  # what came after the save is lost, the bump among it
        server.wait()
    process = start(valkey_of_its_own)
    try:
        wait_until(valkey_of_its_own.is_ready)
        assert redis_of(valkey_of_its_own).exists(*redis_of(valkey_of_its_own).keys("*entry*")), (
            "the stale entry is back"
        )
        wait_until(lambda: is_hit(other))
        assert other.do("read")["titles"] == ["new"]
    finally:
        process.kill()
        process.wait()
