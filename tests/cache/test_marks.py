"""Commits in flight, as Redis sees them."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from django.test import override_settings

from scaling_kit.cache import marks, readings, tags
from scaling_kit.cache.readings import Address
from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import wait_until

HERE = Address(family="test", digest="1")


def store(*names: str) -> bool:
    return readings.store(HERE, readings.read(HERE), b"1", names, timeout_seconds=60)


def is_believed() -> bool:
    return readings.read(HERE).payload is not None


def value_of(tag: str) -> str:
    return str(client(Purpose.SCRIPT).get(key("cache", "tag", tag)))


@pytest.fixture
def entry() -> None:
    """One that depends on the tags a and b."""
    store("a", "b")
    assert is_believed()


@pytest.fixture
def soon() -> Iterator[None]:
    """Marks with a deadline that a test can wait for."""
    with override_settings(SCALING_KIT_CACHE_MARK_SECONDS=0.05):
        yield


def test_marked__neither_believed_nor_stored_until_bumped(entry: None) -> None:
    mark = marks.put({"a"})
    assert mark.is_set
    assert not is_believed()
    assert not store("a", "b")
    tags.bump({"a"}, release=[mark.token])
    assert not is_believed(), "it was of before the commit"
    assert store("a", "b")
    assert is_believed()


def test_other_tags_marked__believed(entry: None) -> None:
    marks.put({"c"})
    assert is_believed()


def test_marked__the_number_of_the_last_bump_is_kept() -> None:
    number = tags.bump({"a"})
    marks.put({"a"})
    assert value_of("a").startswith(f"{number};")
    assert tags.fetch_bumps(["a"]) == {"a": number / 1e6}


def test_two_writers__in_flight_until_both_have_committed(entry: None) -> None:
    first, second = marks.put({"a", "b"}), marks.put({"b"})
    tags.bump({"a", "b"}, release=[first.token])
    assert value_of("a").isdigit()
    assert first.token not in value_of("b")
    assert second.token in value_of("b")
    assert not store("a", "b")
    tags.bump({"b"}, release=[second.token])
    assert value_of("b").isdigit()


def test_bumped_by_somebody_without_a_mark__marks_stay() -> None:
    mark = marks.put({"a"})
    number = tags.bump({"a"})
    assert value_of("a").startswith(f"{number};{mark.token}=")


def test_reply_lost_and_mark_repeated__one_mark() -> None:
    call = [key("cache", "sequence"), key("cache", "tag", "a")], [60_000, "token", 5_000_000]
    for _ in range(3):
        marks.MARK(client(Purpose.SCRIPT), *call)
    assert value_of("a").count("token") == 1
    for _ in range(2):
        tags.bump({"a"}, release=["token"])
    assert value_of("a").isdigit()


def test_deadline_passed__the_next_reader_bumps(entry: None, soon: None) -> None:
    marks.put({"a"})
    wait_until(lambda: not is_believed() and value_of("a").isdigit())
    assert not is_believed(), "whoever was silent may have committed"
    assert store("a", "b")


def test_deadline_passed__whoever_stores_bumps(soon: None) -> None:
    marks.put({"a"})
    time.sleep(0.06)
    assert not store("a"), "this entry may have been computed before the commit"
    assert value_of("a").isdigit()
    assert store("a")


def test_one_of_two_deadlines_passed__still_in_flight(entry: None, soon: None) -> None:
    marks.put({"a"})
    with override_settings(SCALING_KIT_CACHE_MARK_SECONDS=60.0):
        alive = marks.put({"a"})
    time.sleep(0.06)
    assert not store("a")
    assert alive.token in value_of("a")
    tags.bump({"a"}, release=[alive.token])
    assert value_of("a").isdigit(), "this bump came after both"


def test_marked_again_after_the_deadline__nobody_forgets_the_first(soon: None) -> None:
    first = marks.put({"a"})
    time.sleep(0.06)
    marks.put({"a"})
    assert first.token in value_of("a"), "it has not been bumped for"
    time.sleep(0.06)
    store("a")
    assert value_of("a").isdigit()


def test_tag_without_value__marked_all_the_same() -> None:
    mark = marks.put({"never bumped"})
    assert mark.token in value_of("never bumped")
    assert not store("never bumped")


def test_marks__have_an_end() -> None:
    marks.put({"a"})
    assert client(Purpose.SCRIPT).ttl(key("cache", "tag", "a")) > 0


def test_commit_goes_on__the_deadline_is_put_off_until_it_has_ended(
    entry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_prolonger", marks._Prolonger())  # that of an earlier test still looks rarely
    with override_settings(SCALING_KIT_CACHE_MARK_SECONDS=0.3):
        mark = marks.put({"a", "b"})
        other = marks.put({"b"})
        with marks.prolonged({"a", "b"}, mark):
            time.sleep(0.7)
            assert not store("a", "b")
            assert value_of("a").count(mark.token) == 1
            assert value_of("b").count(other.token) == 1, "nobody prolongs that one, and it is not forgotten"
        wait_until(lambda: not store("a") and value_of("a").isdigit())
        wait_until(lambda: marks._prolonger._thread is None)


def test_prolonged_too_late__the_mark_does_not_come_back() -> None:
    mark = marks.put({"a"})
    tags.bump({"a"}, release=[mark.token])
    before = value_of("a")
    marks._prolong(mark.token, {"a", "never bumped"})
    assert value_of("a") == before
    assert value_of("never bumped") == "None"


def test_prolonged__only_the_deadline_changes() -> None:
    number = tags.bump({"a"})
    first, second = marks.put({"a"}), marks.put({"a"})
    untouched = value_of("a").split(";")[2]
    with override_settings(SCALING_KIT_CACHE_MARK_SECONDS=60.0):
        marks._prolong(first.token, {"a"})
    now, prolonged, same = value_of("a").split(";")
    assert (now, same) == (str(number), untouched)
    assert same.startswith(second.token)
    assert int(prolonged.removeprefix(f"{first.token}=")) > int(same.removeprefix(f"{second.token}="))


def test_no_thread_can_be_started__committed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(marks, "_prolonger", marks._Prolonger())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with marks.prolonged({"a"}, marks.put({"a"})):
        committed = True
    assert committed


def test_forked_while_committing__the_parent_alone_prolongs() -> None:
    with marks.prolonged({"a"}, marks.put({"a"})):
        child = os.fork()
        if child == 0:
            os._exit(len(marks._prolonger._names))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert marks._prolonger._names


def test_redis_away__said_and_not_raised() -> None:
    with override_settings(SCALING_KIT_CACHE_REDIS_URL="redis://127.0.0.1:1/0"):
        assert not marks.put({"a"}).is_set
