"""The protocol in Redis, with whatever may go missing there."""

import pytest

from scaling_kit.cache import marks, readings, tags
from scaling_kit.cache.readings import Address
from scaling_kit.redis import Purpose, client, key

HERE = Address(family="test", digest="1")


def store(payload: bytes = b"1", *names: str) -> bool:
    return readings.store(HERE, readings.read(HERE), payload, names, timeout_seconds=60)


def stored(*names: str) -> None:
    store(b"1", *names)
    assert readings.read(HERE).payload == b"1"


def test_bumped__gone(keys_of_one_test: str) -> None:
    stored("a", "b")
    tags.bump({"c"})
    assert readings.read(HERE).payload == b"1"
    tags.bump({"b"})
    assert readings.read(HERE).payload is None


def test_bumped_after_the_reading__not_stored() -> None:
    stored("a")
    reading = readings.read(HERE)
    tags.bump({"a"})
    assert not readings.store(HERE, reading, b"2", ["a"], timeout_seconds=60)


@pytest.mark.parametrize("evict", [True, False], ids=["tag evicted", "tag there"])
def test_dependency_found_while_computing__a_bump_before_that_counts(evict: bool) -> None:
    reading = readings.read(HERE)
    tags.bump({"found later"})
    if evict:
        client(Purpose.SCRIPT).delete(key("cache", "tag", "found later"))
    assert not readings.store(HERE, reading, b"1", ["found later"], timeout_seconds=60)
    assert store(b"2", "found later"), "the next time the tag is known"


@pytest.mark.parametrize("lost", [("tag", "a"), ("tag", "*"), ("sequence",)])
def test_key_lost__entry_not_believed(lost: tuple[str, ...]) -> None:
    stored("a")
    client(Purpose.SCRIPT).delete(key("cache", *lost))
    assert readings.read(HERE).payload is None


def test_sequence_lost__no_number_is_given_twice() -> None:
    before = tags.bump({"a"})
    client(Purpose.SCRIPT).delete(key("cache", "sequence"))
    assert tags.bump({"a"}) > before


def test_commit_in_flight__neither_believed_nor_stored() -> None:
    stored("a")
    client(Purpose.SCRIPT).set(key("cache", "tag", "a"), "17;token=99999999999999999", px=60_000)
    assert readings.read(HERE).payload is None
    assert not store(b"2", "a")


def test_claimed__by_one_until_released() -> None:
    assert readings.claim(HERE, "mine", seconds=5)
    assert not readings.claim(HERE, "yours", seconds=5)
    readings.release(HERE, "yours")
    assert readings.read(HERE).claimed
    readings.release(HERE, "mine")
    assert not readings.read(HERE).claimed


def test_every_key_but_three__has_an_end() -> None:
    stored("a")
    readings.claim(HERE, "mine", seconds=5)
    redis = client(Purpose.SCRIPT)
    endless = {name for name in redis.scan_iter(f"{key('cache')}*") if redis.ttl(name) < 0}
    assert endless <= {key("cache", name) for name in ("sequence", "run_id", "families")}


def test_entry_lives_longer_than_a_tag_does__tags_are_prolonged() -> None:
    tags.bump({"a"})
    readings.store(HERE, readings.read(HERE), b"1", ["a"], timeout_seconds=10 * tags.TAG_SECONDS)
    assert client(Purpose.SCRIPT).ttl(key("cache", "tag", "a")) > 10 * tags.TAG_SECONDS


def test_server_is_another_one__knows_the_scripts_of_a_write_at_once() -> None:
    redis = client(Purpose.SCRIPT)
    redis.script_flush()
    redis.delete(key("cache", "run_id"))
    tags.redis_client().connection_pool.disconnect()
    tags.redis_client().ping()
    assert redis.script_exists(*[script.sha for script in (tags.BUMP, marks.MARK)]) == [True, True]
