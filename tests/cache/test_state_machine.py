"""Readers and writers, interleaved step by step, while the network fails and Redis forgets.

Redis, its scripts and the functions that use them are real; the database is a dictionary of versions. The rule that is
checked: a read that begins after a commit has been told to Redis is never answered with what was before that commit.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RULE_MARKER,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scaling_kit.cache import marks, readings, tags
from scaling_kit.cache.marks import Mark
from scaling_kit.cache.readings import Address, Header, Reading
from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import isolated_keys

TABLES = ["a", "b"]
ADDRESSES = [Address(family=f"page {number}", digest=str(number)) for number in range(2)]
CHOICES: dict[str, list[Any]] = {
    "address": ADDRESSES,
    "commands": [1, 2, 5],
    "name": [*(f"tag:{table}" for table in TABLES), f"tag:{tags.EPOCH}", "sequence", "entry", "*"],
    "reader": [0, 1],
    "redis_saves": [False, True],
    "replies": [1, 2, 3],
    "special": ["", "savepoint", "eviction"],
    "table": TABLES,
    "writer": [0, 1],
}


def any_of(*names: str) -> dict[str, st.SearchStrategy[Any]]:
    return {name: st.sampled_from(CHOICES[name]) for name in names}


class Network:
    """The way to Redis, which may be closed, may lose replies, and may deliver after the sender has given up."""

    def __init__(self) -> None:
        self.is_stuck = False
        self.commands_to_refuse = self.replies_to_lose = 0
        self.late: list[Any] = []

    def sending(self, command: Any) -> None:
        if self.commands_to_refuse:
            self.commands_to_refuse -= 1
            raise redis.ConnectionError("no way to Redis")
        if self.is_stuck:
            self.late.append(command)
            raise redis.TimeoutError("given up")

    def received(self) -> None:
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            raise redis.ConnectionError("the reply is lost")

    def deliver_late(self) -> None:
        connection = redis.Connection(**connection_arguments())
        for command in self.late:
            connection.send_packed_command(command)
            with suppress(redis.ResponseError):
                connection.read_response()
        connection.disconnect()
        self.late.clear()


network = Network()


class Connection(redis.Connection):
    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        with self._closed_on_failure():
            network.sending(command)
            super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **options: Any) -> Any:
        with self._closed_on_failure():
            reply = super().read_response(*args, **options)
            network.received()
            return reply

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except redis.ConnectionError:
            self.disconnect()
            raise


def connection_arguments() -> dict[str, Any]:
    options = tags.redis_client().connection_pool.connection_kwargs
    return {name: value for name, value in options.items() if name in ("host", "port", "db")}


@pytest.fixture(autouse=True)
def faulty_connections() -> Iterator[None]:
    pool = tags.redis_client().connection_pool
    kept, pool.connection_class = pool.connection_class, Connection
    pool.disconnect()
    pool.reset()
    yield
    pool.connection_class = kept
    pool.disconnect()
    pool.reset()


class Kit:
    """The protocol as it is. What is derived from it is what a cache could do instead."""

    def read(self, address: Address) -> Reading:
        return readings.read(address)

    def before_storing(self, address: Address, reading: Reading) -> Reading:
        return reading

    def store(self, address: Address, reading: Reading, payload: bytes, names: set[str]) -> None:
        readings.store(address, reading, payload, names, timeout_seconds=60)

    def before_commit(self, names: set[str]) -> Mark | None:
        return None

    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        tags.bump(names)

    def after_savepoint_rollback(self, written: set[str]) -> set[str]:
        return written

    def meet_server(self) -> None:
        tags.redis_client().connection_pool.disconnect()  # the next connection asks

    def let_marks_expire(self, value: bytes) -> bytes:
        return re.sub(rb"=\d+", b"=1", value)


class StrictKit(Kit):
    """A commit that was announced is seen by every read that begins after it, whenever the bump comes, if it does."""

    def before_commit(self, names: set[str]) -> Mark | None:
        mark = marks.put(names)
        marks._prolong(mark.token, names)
        return mark

    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        tags.bump(names, release=[mark.token] if mark else [])
        if mark:
            marks._prolong(mark.token, names)  # it was under way


@dataclass
class Reader:
    address: Address | None = None
    reading: Reading | None = None
    to_read: list[str] = field(default_factory=list)
    data: dict[str, int] = field(default_factory=dict)


@dataclass
class Writer:
    """`written`: what the cache remembers of a transaction; `changed`: what the database is going to have changed.

    `is_announced`: by a mark that Redis still has.
    """

    written: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    mark: Mark | None = None
    is_announced: bool = False
    unsent: set[str] = field(default_factory=set)
    committed: dict[str, int] = field(default_factory=dict)


class Interleaving(RuleBasedStateMachine):
    protocol: type[Kit] = Kit

    @initialize()
    def begin(self) -> None:
        self._isolation = isolated_keys()
        self._isolation.__enter__()
        network.__init__()  # type: ignore[misc]
        tags.redis_client().connection_pool.disconnect()
        readings._questions.clear()
        self.redis = client(Purpose.SCRIPT, decode=False)
        self.kit = self.protocol()
        self.database = dict.fromkeys(TABLES, 0)
        # The versions that no later read may be older than: by a bump; by a mark, as long as Redis has that.
        self.told, self.announced = dict(self.database), dict(self.database)
        self.versions = itertools.count(1)
        self.readers = [Reader() for _ in range(2)]
        self.writers = [Writer() for _ in range(2)]
        self.unsent: list[Writer] = []
        self.snapshot: dict[bytes, tuple[int, bytes]] = {}

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            if found := self._keys():
                self.redis.delete(*found)
            self._isolation.__exit__(None, None, None)

    # Readers

    @rule(**any_of("reader", "address"))
    def reader_goes_on(self, reader: int, address: Address) -> None:
        one = self.readers[reader]
        if one.reading is None:
            self._read(one, address)
        elif one.to_read:
            self._compute(one)
        else:
            self._store(one)

    @rule()
    def someone_looks_at_everything(self) -> None:
        for address in ADDRESSES:
            self._read(Reader(), address)

    @rule(**any_of("address", "redis_saves"))
    def someone_reads(self, address: Address, redis_saves: bool) -> None:
        """Undisturbed from the beginning to the end: so that there are entries."""
        one = Reader()
        self._read(one, address)
        while one.to_read:
            self._compute(one)
        self._store(one)
        if redis_saves:
            self.snapshot = {name: (max(0, self.redis.pttl(name)), self.redis.dump(name)) for name in self._keys()}

    def _read(self, one: Reader, address: Address) -> None:
        """What a request does first: believe the entry, or take note of the sequence and compute."""
        found: list[Reading] = []
        self._attempt(lambda: found.append(self.kit.read(address)))
        if not found:
            return
        if found[0].payload is None:
            one.address, one.reading, one.to_read = address, found[0], ["a"]
            return
        for table, version in json.loads(found[0].payload).items():
            at_least = max(self.told[table], self.announced[table])
            assert version >= at_least, f"stale: {table} {version} < {at_least}"

    def _compute(self, one: Reader) -> None:
        """One SELECT. The first page reads `b` too; the other one only now and then: what it needs, the data say."""
        table = one.to_read.pop()
        one.data[table] = self.database[table]
        if table == "a" and (one.address is ADDRESSES[0] or one.data["a"] % 2):
            one.to_read.append("b")

    def _store(self, one: Reader) -> None:
        address, reading, data = one.address, one.reading, one.data
        if address is not None and reading is not None:
            self._attempt(
                lambda: self.kit.store(
                    address, self.kit.before_storing(address, reading), json.dumps(data).encode(), set(data)
                )
            )
        one.address, one.reading, one.data = None, None, {}

    # Writers

    @rule(**any_of("writer", "table"))
    def writer_goes_on(self, writer: int, table: str) -> None:
        """Others may have their turn between the commit and the bump."""
        one = self.writers[writer]
        if one.committed:
            self._bump(one)
        elif one.mark:
            self._commit(one)
        elif one.changed:
            self._announce(one)
            if not one.mark:
                self._commit(one)
        else:
            self.write(writer, table)

    @rule(**any_of("table", "special"))
    def someone_writes(self, table: str, special: str) -> None:
        one = Writer(written={table}, changed={table})
        if special == "savepoint":  # what comes after it is rolled back
            one.written = self.kit.after_savepoint_rollback({table, *TABLES})
        self._announce(one)
        self._commit(one)
        self._bump(one)
        self.unsent.append(one)
        if special == "eviction":
            self.redis_forgets(f"tag:{table}")

    @rule(**any_of("writer", "table"))
    def write(self, writer: int, table: str) -> None:
        one = self.writers[writer]
        if one.mark:  # it is at its commit
            return
        one.written, one.changed = one.written | {table}, one.changed | {table}

    @rule(**any_of("writer"))
    def roll_back(self, writer: int) -> None:
        if not self.writers[writer].committed:
            self.writers[writer] = Writer()

    @rule(**any_of("writer"))
    def writer_is_killed(self, writer: int) -> None:
        """What it had marked stays marked."""
        self.writers[writer] = Writer()

    @rule()
    def unsent_bumps_are_sent(self) -> None:
        for one in self.unsent:
            self._bump(one)
        self.unsent = [one for one in self.unsent if one.committed]

    def _announce(self, one: Writer) -> None:
        def announce() -> None:
            one.mark = self.kit.before_commit(one.written)

        self._attempt(announce)
        one.is_announced = one.mark is not None and one.mark.is_set

    def _commit(self, one: Writer) -> None:
        for table in one.changed:
            self.database[table] = one.committed[table] = next(self.versions)
            if one.is_announced:
                self.announced[table] = self.database[table]
        one.unsent = one.written
        one.written, one.changed = set(), set()

    def _bump(self, one: Writer) -> None:
        """If it fails it is tried again later, as `unsent` does."""
        if self._attempt(lambda: self.kit.after_commit(one.unsent, one.mark)):
            self.told |= {table: max(version, self.told[table]) for table, version in one.committed.items()}
            one.unsent, one.committed, one.mark, one.is_announced = set(), {}, None, False

    # What befalls them

    @rule(**any_of("replies"))
    def lose_replies(self, replies: int) -> None:
        network.replies_to_lose = replies

    @rule(**any_of("commands"))
    def redis_is_away(self, commands: int) -> None:
        network.commands_to_refuse = commands
        tags.redis_client().connection_pool.disconnect()

    @rule(**any_of("reader", "writer", "table"))
    def time_out(self, reader: int, writer: int, table: str) -> None:
        """The command is under way when its sender gives it up."""
        network.is_stuck = True
        if self.readers[reader].reading is not None:
            self.reader_goes_on(reader, ADDRESSES[0])
        self.writer_goes_on(writer, table)
        network.is_stuck = False

    @precondition(lambda self: network.late)
    @rule()
    def what_timed_out_arrives(self) -> None:
        network.deliver_late()

    @rule(**any_of("name"))
    def redis_forgets(self, name: str) -> None:
        """An eviction, an expiry, or all of it: a FLUSHALL, which does not make it another server."""
        stem = key("cache", *name.split(":")).encode()
        for found in self._keys():
            if name == "*" or found == stem or (name == "entry" and found.startswith(stem)):
                self.redis.delete(found)
        if name in ("*", *(f"tag:{table}" for table in TABLES)):
            self._forget_marks()

    @rule()
    def deadlines_pass(self) -> None:
        """Of a writer that was killed, or is slow: then it has lost what a mark gives."""
        for name in tags.keys_of(TABLES):
            if value := self.redis.get(name):
                self.redis.set(name, self.kit.let_marks_expire(value), keepttl=True)
        marks._asked_at.clear()
        for one in self.writers:
            one.is_announced = False

    @precondition(lambda self: self.snapshot)
    @rule()
    def redis_is_killed_and_starts_from_what_it_saved(self) -> None:
        self.redis_forgets("*")
        for name, (lifetime_ms, value) in self.snapshot.items():
            self.redis.restore(name, lifetime_ms, value)
        self.redis.set(key("cache", "run_id"), "another")  # what is in there is of another server
        self._forget_marks()
        network.late.clear()
        self.kit.meet_server()

    def _forget_marks(self) -> None:
        """From now on bumps have to do it."""
        self.announced = dict.fromkeys(TABLES, 0)
        for one in self.writers:
            one.is_announced = False

    def _attempt(self, action: Callable[[], object]) -> bool:
        tags.redis_client()._open_until = 0.0  # type: ignore[attr-defined]  # the breaker's half second has passed
        try:
            action()
        except redis.RedisError:
            return False
        return True

    def _keys(self) -> list[bytes]:
        return sorted(self.redis.keys(f"{key('cache')}:*"))


def interleave(protocol: type[Kit]) -> None:
    class Machine(Interleaving):
        pass

    Machine.protocol = protocol
    run_state_machine_as_test(Machine, settings=hypothesis.settings(stateful_step_count=40))


def interleave_at_random(protocol: type[Kit], *, runs: int) -> None:
    """Without Hypothesis, which prefers to vary what it had: each step independent of the last finds more, sooner."""
    chance = random.Random(1)
    rules = [getattr(step, RULE_MARKER) for step in vars(Interleaving).values() if hasattr(step, RULE_MARKER)]
    for _ in range(runs):
        machine = Interleaving()
        machine.protocol = protocol
        machine.begin()
        try:
            for _ in range(40):
                rule = chance.choice(rules)
                if all(precondition(machine) for precondition in rule.preconditions):
                    rule.function(machine, **{name: chance.choice(CHOICES[name]) for name in rule.arguments})
        finally:
            machine.teardown()


@pytest.mark.parametrize("protocol", [Kit, StrictKit])
def test_readers_and_writers_interleaved__never_older_than_what_was_told(protocol: type[Kit]) -> None:
    interleave(protocol)
    interleave_at_random(protocol, runs=300)


class TakesTheSequenceAfterTheQueries(Kit):
    def before_storing(self, address: Address, reading: Reading) -> Reading:
        return self.read(address)


class StoresWithoutAsking(Kit):
    def store(self, address: Address, reading: Reading, payload: bytes, names: set[str]) -> None:
        header = Header(reading.sequence, time.time() + 60, 0.0, 0.0, tuple(sorted(names)))
        tags.redis_client().set(readings.entry_key(address), header.encode() + b"\n" + payload)
        tags.redis_client().mset(dict.fromkeys(tags.keys_of(names), reading.sequence))


class BumpsBeforeTheCommit(Kit):
    def before_commit(self, names: set[str]) -> Mark | None:
        tags.bump(names)
        return Mark(token="", is_set=False)  # so that the commit is a step of its own

    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        pass


class GivesUpWhatRedisDoesNotTake(Kit):
    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        with suppress(redis.RedisError):
            tags.bump(names)


class ForgetsWhatWasWrittenBeforeTheSavepoint(Kit):
    def after_savepoint_rollback(self, written: set[str]) -> set[str]:
        return set()


class NeverAsksWhichServerItIs(Kit):
    def meet_server(self) -> None:
        pass


class BelievesWithoutTheTag(Kit):
    """A tag that is not there has never been bumped."""

    def read(self, address: Address) -> Reading:
        names = list(self._names(address))
        for tag, value in zip(names, tags.mget(tags.keys_of(names)) if names else [], strict=True):
            if value is None:
                tags.redis_client().set(tags.keys_of([tag])[0], 1)
        return super().read(address)

    def _names(self, address: Address) -> list[str]:
        entry: Any = tags.redis_client().get(readings.entry_key(address))
        return (entry or b"").partition(b"\n")[0].decode().split(" ")[1:]


class CountsEachTagByItself(Kit):
    """An entry has the counts of its tags as they were before the queries, and is right while these are the same."""

    def read(self, address: Address) -> Reading:
        entry: Any = tags.redis_client().get(self._entry(address))
        counts = self._counts()
        if entry is not None:
            stored = json.loads(entry)
            if all(counts[table] == stored["counts"][table] for table in stored["data"]):
                return Reading(asked_at=0.0, sequence=0, payload=json.dumps(stored["data"]).encode())
        return Reading(asked_at=0.0, sequence=counts["a"] * 1_000_000 + counts["b"])

    def store(self, address: Address, reading: Reading, payload: bytes, names: set[str]) -> None:
        counts = dict(zip(TABLES, divmod(reading.sequence, 1_000_000), strict=True))
        tags.redis_client().set(self._entry(address), json.dumps({"counts": counts, "data": json.loads(payload)}))

    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        for name in tags.keys_of(names):
            tags.redis_client().incr(name)

    def _entry(self, address: Address) -> str:
        return readings.entry_key(address)

    def _counts(self) -> dict[str, int]:
        return {name: int(value or 0) for name, value in zip(TABLES, tags.mget(tags.keys_of(TABLES)), strict=True)}


class MarksForAMoment(StrictKit):
    def before_commit(self, names: set[str]) -> Mark | None:
        mark = marks.put(names)
        tags.bump(names, release=[mark.token])
        return mark


class TakesTheMarksOfOthersAway(StrictKit):
    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        number = tags.bump(names)
        for name in tags.keys_of(names):
            tags.redis_client().set(name, number)


class ForgetsMarksPastTheirDeadline(StrictKit):
    def let_marks_expire(self, value: bytes) -> bytes:
        return value.partition(b";")[0]


class DeletesOnWrite(Kit):
    """As most recipes do."""

    def read(self, address: Address) -> Reading:
        payload: Any = tags.redis_client().get(readings.entry_key(address))
        return Reading(asked_at=0.0, sequence=0, payload=payload)

    def store(self, address: Address, reading: Reading, payload: bytes, names: set[str]) -> None:
        tags.redis_client().set(readings.entry_key(address), payload)

    def after_commit(self, names: set[str], mark: Mark | None) -> None:
        tags.redis_client().delete(*(readings.entry_key(address) for address in ADDRESSES))


@pytest.mark.parametrize(
    "broken",
    [
        TakesTheSequenceAfterTheQueries,
        StoresWithoutAsking,
        BumpsBeforeTheCommit,
        GivesUpWhatRedisDoesNotTake,
        ForgetsWhatWasWrittenBeforeTheSavepoint,
        NeverAsksWhichServerItIs,
        BelievesWithoutTheTag,
        CountsEachTagByItself,
        DeletesOnWrite,
        MarksForAMoment,
        TakesTheMarksOfOthersAway,
        ForgetsMarksPastTheirDeadline,
    ],
)
def test_broken_protocol__is_found_out(broken: type[Kit]) -> None:
    with pytest.raises(AssertionError, match="stale"):
        interleave_at_random(broken, runs=2000)
