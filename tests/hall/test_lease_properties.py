"""Several owners contend for one lease while time passes, processes pause, the network fails and Redis forgets.

Redis is real and so is its time; it is made to pass faster by taking from what the holder's key has left to live.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import redis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, Script, client

TTL_SECONDS = 60.0
OWNERS = st.integers(0, 2)
SECONDS = st.sampled_from([1.0, 20.0, 59.0, 59.7, 61.0, 130.0])
PASS = Script("""
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[1], math.max(0, left - ARGV[1])) end
""")
names = (f"property-{number}" for number in itertools.count())


class Clock:
    """The monotonic clock of a process: it started somewhere, and runs a little too fast or too slow."""

    def __init__(self, start: float, rate: float) -> None:
        self.offset, self.rate = start, rate

    def __call__(self) -> float:
        return time.monotonic() + self.offset

    def pass_by(self, seconds: float) -> None:
        self.offset += seconds * self.rate


class Network:
    """Redis as an owner reaches it. A command may take long on its way, be answered late, never, or arrive too late.

    Forwards everything to the real client.
    """

    def __init__(self, real: redis.Redis) -> None:
        self.real = real
        self.on_the_way: Callable[[], object] = lambda: None
        self.on_the_way_back: Callable[[], object] = lambda: None
        self.replies_to_lose = 0
        self.is_stuck = False
        self.late: list[tuple[Any, ...]] = []

    def evalsha(self, *command: Any) -> Any:
        return self._send("evalsha", command)

    def eval(self, *command: Any) -> Any:
        return self._send("eval", command)

    def _send(self, name: str, command: tuple[Any, ...]) -> Any:
        if self.is_stuck:
            self.late.append((name, *command))
            raise redis.TimeoutError
        self.on_the_way()
        reply = getattr(self.real, name)(*command)
        self.on_the_way_back()
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            raise redis.ConnectionError("the reply is lost")
        return reply

    def deliver_late(self) -> None:
        for name, *command in self.late:
            getattr(self.real, name)(*command)
        self.late.clear()


class Contention(RuleBasedStateMachine):
    kind: type[Lease] = Lease

    @initialize(rates=st.lists(st.sampled_from([0.995, 1.0, 1.005]), min_size=3, max_size=3))
    def begin(self, rates: list[float]) -> None:
        self.redis = client(Purpose.SCRIPT)
        name = next(names)
        self.clocks = [Clock(start, rate) for start, rate in zip([0.0, 1e6, -5e5], rates, strict=True)]
        self.networks = [Network(self.redis) for _ in range(3)]
        self.owners = [
            self.kind(name, client=network, ttl_seconds=TTL_SECONDS, clock=clock)  # type: ignore[arg-type]
            for network, clock in zip(self.networks, self.clocks, strict=True)
        ]
        self.latest_epoch = 0
        self.forgotten: set[int] = set()  # owners whose lease was lost with Redis's data

    # What owners do

    @rule(owner=OWNERS)
    def hold(self, owner: int) -> None:
        self._hold(owner)

    @rule(owner=OWNERS)
    def renew(self, owner: int) -> None:
        lease, epoch = self.owners[owner], self.owners[owner].epoch
        self._attempt(lease.renew)
        assert lease.epoch == epoch, "a renewal never acquires"

    @rule(owner=OWNERS)
    def release(self, owner: int) -> None:
        holder = self._holder()
        token = self.owners[owner].token
        self._attempt(self.owners[owner].release)
        assert not self.owners[owner].is_held
        self.forgotten.discard(owner)
        if holder != token:
            assert self._holder() == holder, "nobody releases another's lease"

    @rule(owner=OWNERS, other=OWNERS, before=SECONDS, after=SECONDS)
    def hold_and_be_paused(self, owner: int, other: int, before: float, after: float) -> None:
        """The process stands still between reading its clock, Redis's answer, and seeing it; another takes its turn."""
        network = self.networks[owner]
        network.on_the_way = lambda: self.time_passes(before)

        def on_the_way_back() -> None:
            self.time_passes(after)
            if other != owner:
                self._hold(other)

        network.on_the_way_back = on_the_way_back
        self._attempt(self.owners[owner].hold)
        network.on_the_way = network.on_the_way_back = lambda: None
        self._note(owner)

    # What befalls them

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.pass_by(seconds)
        PASS(self.redis, [self.owners[0].holder_key], [round(seconds * 1000)])

    @rule(owner=OWNERS, replies=st.integers(1, 3))
    def lose_replies(self, owner: int, replies: int) -> None:
        self.networks[owner].replies_to_lose = replies

    @rule(owner=OWNERS, action=st.sampled_from(["hold", "renew", "release"]))
    def time_out(self, owner: int, action: str) -> None:
        """The command is under way when its sender gives it up."""
        self.networks[owner].is_stuck = True
        self._attempt(getattr(self.owners[owner], action))
        self.networks[owner].is_stuck = False

    @rule(owner=OWNERS)
    def what_timed_out_arrives(self, owner: int) -> None:
        self.networks[owner].deliver_late()

    @rule(keys=st.sampled_from(["holder", "epoch", "both"]))
    def redis_loses_data(self, keys: str) -> None:
        one = self.owners[0]
        self.forgotten |= {number for number, lease in enumerate(self.owners) if lease.is_held}
        lost = {"holder": [one.holder_key], "epoch": [one.epoch_key], "both": [one.holder_key, one.epoch_key]}
        self.redis.delete(*lost[keys])

    # What must hold all the time

    @invariant()
    def at_most_one_holds_it_and_redis_agrees(self) -> None:
        held = [number for number, lease in enumerate(self.owners) if lease.is_held and number not in self.forgotten]
        for number in held:
            assert self._holder() == self.owners[number].token
            assert int(self.redis.get(self.owners[number].epoch_key) or 0) == self.owners[number].epoch
        assert len(held) <= 1

    def _hold(self, owner: int) -> None:
        self._attempt(self.owners[owner].hold)
        self._note(owner)

    def _note(self, owner: int) -> None:
        """A success: its epoch is the one of the holder that was, or later than all."""
        lease = self.owners[owner]
        if lease.is_held:
            self.forgotten.discard(owner)
            assert lease.epoch >= self.latest_epoch, "the fencing token went back"
        others = [other.epoch for other in self.owners if other is not lease]
        assert not lease.is_held or lease.epoch not in others, "two owners, one fencing token"
        self.latest_epoch = max(self.latest_epoch, lease.epoch)

    def _attempt(self, action: Callable[[], object]) -> None:
        with suppress(redis.RedisError):
            action()

    def _holder(self) -> Any:
        return self.redis.get(self.owners[0].holder_key)


def contend(kind: type[Lease], *, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    class Machine(Contention):
        pass

    Machine.kind = kind
    run_state_machine_as_test(
        Machine, settings=hypothesis.settings(max_examples=examples, stateful_step_count=40, phases=phases)
    )


def test_lease__one_holder_and_epochs_that_never_go_back() -> None:
    contend(Lease, examples=hypothesis.settings().max_examples)


def test_release_given_up_by_its_sender__is_not_undone_by_renewing() -> None:
    """Found by the machine, but only when it searched for long."""
    network = Network(client(Purpose.SCRIPT))
    lease = Lease("test", client=network)  # type: ignore[arg-type]
    lease.hold()
    network.is_stuck = True
    with pytest.raises(redis.RedisError):
        lease.release()
    network.is_stuck = False
    assert not lease.renew()
    assert not lease.hold(), "another token, so the late release cannot end it; the old lease has to run out"
    network.deliver_late()
    assert lease.hold()


class ReleasesWithoutAsking(Lease):
    def release(self) -> bool:
        self.mark_lost()
        return bool(self.client.real.delete(self.holder_key))  # type: ignore[attr-defined]


class CountsFromTheAnswer(Lease):
    def _ask(self, *, epoch: int) -> bool:
        if super()._ask(epoch=epoch) or self.epoch:
            self._held_until = self._clock() + self.ttl_seconds
        return self.is_held


class RenewsWhateverIsThere(Lease):
    def renew(self) -> bool:
        self._held_until = self._clock() + self.ttl_seconds
        return bool(self.client.real.expire(self.holder_key, round(self.ttl_seconds)))  # type: ignore[attr-defined]


class RenewsByAcquiring(Lease):
    def renew(self) -> bool:
        return self.hold()


class CountsItsOwnEpochs(Lease):
    def _ask(self, *, epoch: int) -> bool:
        before = self.epoch
        held = super()._ask(epoch=epoch)
        self.epoch = before + 1 if held and not epoch else before
        return held


class KeepsItsTokenAfterARelease(Lease):
    @property
    def token(self) -> str:
        return f":{self._secret}"


@pytest.mark.parametrize(
    "broken",
    [
        ReleasesWithoutAsking,
        CountsFromTheAnswer,
        RenewsWhateverIsThere,
        RenewsByAcquiring,
        CountsItsOwnEpochs,
        KeepsItsTokenAfterARelease,
    ],
)
def test_broken_lease__is_found_out(broken: type[Lease]) -> None:
    with pytest.raises(AssertionError):
        contend(broken, examples=2000, phases=(Phase.generate,))
