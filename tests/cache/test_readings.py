"""Entries as they are in Redis: headers, foreign bytes, a server that refuses, replicas that lag."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from scaling_kit.cache import entries, readings, tags
from scaling_kit.cache.entries import Computed
from scaling_kit.cache.readings import Address, Header
from scaling_kit.redis import Purpose, client

HERE = Address(family="view", digest="1")
TAGS = st.text(alphabet=st.characters(blacklist_characters=" \n", blacklist_categories=["Cs"]), min_size=1)
SECONDS = st.floats(min_value=0, max_value=1e6).map(lambda number: round(number, 3))


HEADERS = st.builds(Header, st.integers(min_value=0), SECONDS, SECONDS, SECONDS, st.lists(TAGS, min_size=1).map(tuple))


@given(HEADERS)
def test_header__reads_what_was_written(header: Header) -> None:
    assert Header.decode(header.encode()) == header


@given(st.binary())
def test_header_of_any_bytes__is_read_or_refused(line: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(Header.decode(line), Header)


def served() -> str:
    computed = Computed(value="new", payload=b"new")
    return entries.serve(HERE, lambda: computed, bytes.decode, timeout_seconds=60).status


@pytest.mark.parametrize("found", [b"", b"no header", b"\xff\xfe\n", b"1 *\nold", b"x;1;1;1 *\nold"])
def test_bytes_that_are_no_entry__are_replaced(found: bytes) -> None:
    client(Purpose.SCRIPT).set(readings.entry_key(HERE), found)
    assert [served(), served()] == ["miss", "hit"]


def test_key_of_another_type__computed_and_never_an_error() -> None:
    client(Purpose.SCRIPT).lpush(readings.entry_key(HERE), "x")
    assert served() in ("miss", "bypass;redis")
    client(Purpose.SCRIPT).lpush(tags.key_of("claim", "1"), "x")
    assert served().startswith(("miss", "hit", "bypass"))


@pytest.fixture
def full_redis() -> Iterator[None]:
    redis = client(Purpose.SCRIPT)
    redis.config_set("maxmemory", "1")
    yield
    redis.config_set("maxmemory", "0")


def test_redis_is_full__computed(full_redis: None) -> None:
    assert served().startswith("bypass;redis")


def stored_with(names: set[str]) -> bool:
    return readings.store(HERE, readings.read(HERE), b"1", names, timeout_seconds=60)


@override_settings(SCALING_KIT_CACHE_LAG_SECONDS=0.5)
def test_bumped_within_the_lag_of_replicas__not_stored_and_later_it_is() -> None:
    tags.bump({"a"})
    assert not stored_with({"a"})
    time.sleep(0.6)
    assert stored_with({"a"})


@override_settings(SCALING_KIT_CACHE_LAG_SECONDS=0.5)
def test_computed_for_longer_than_the_lag__counts_from_when_it_was_read() -> None:
    tags.bump({"a"})
    reading = readings.read(HERE)
    time.sleep(0.6)
    assert not readings.store(HERE, reading, b"1", {"a"}, timeout_seconds=60)


def test_many_addresses_of_one_family_each_with_a_scope__one_question_each() -> None:
    def of_tenant(number: int) -> Address:
        scope = f"table.book|tenant={number}"
        return Address(family="tenants", digest=str(number), expects=frozenset({scope}))

    redis = client(Purpose.SCRIPT)
    for number in range(200):
        here = of_tenant(number)
        for _ in range(2):  # the first one makes the tags known
            readings.store(here, readings.read(here), b"1", here.expects, timeout_seconds=60)
    before = redis.info("commandstats")["cmdstat_mget"]["calls"]
    readings._questions._by_digest.clear()  # a process that has not seen these addresses
    assert all(readings.read(of_tenant(number)).payload == b"1" for number in range(200))
    assert redis.info("commandstats")["cmdstat_mget"]["calls"] - before == 200


def test_payload_that_is_damaged__computed_and_forgotten() -> None:
    def damaged(_: bytes) -> str:
        raise ValueError

    assert [served(), served()] == ["miss", "hit"]
    computed = Computed(value="new", payload=b"new")
    assert entries.serve(HERE, lambda: computed, damaged, timeout_seconds=60).status == "bypass;corrupt"
    assert [served(), served()] == ["miss", "hit"]
