import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from scaling_kit.leadership import Candidate, Duty
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import wait_until


def lease(**options: float) -> Lease:
    return Lease("test", client=client(Purpose.SCRIPT), **options)


def duty(run: Callable[[Lease], float | None]) -> Duty:
    return Duty(run=run, every_seconds=0.01)


@contextmanager
def running(candidate: Candidate) -> Iterator[threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=candidate.run, args=[stop])
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def test_two_candidates__the_leader_alone_runs_its_duty() -> None:
    ran: list[str] = []
    first = Candidate(lease(), [duty(lambda _: ran.append("first"))])
    second = Candidate(lease(), [duty(lambda _: ran.append("second"))])
    with running(first):
        wait_until(lambda: first.is_leader)
        with running(second):
            wait_until(lambda: len(ran) > 10)
            assert set(ran) == {"first"}


def test_leader_stops__a_follower_is_woken_long_before_the_lease_runs_out() -> None:
    first, second = Candidate(lease(ttl_seconds=600), []), Candidate(lease(ttl_seconds=600), [])
    with running(first) as stop:
        wait_until(lambda: first.is_leader)
        with running(second):
            wait_until(lambda: client(Purpose.SCRIPT).pubsub_numsub(first.lease.released_channel)[0][1])
            stop.set()
            wait_until(lambda: second.is_leader)
    assert second.lease.epoch > first.lease.epoch


def test_leader_dies__a_follower_leads_when_the_lease_runs_out() -> None:
    dead, follower = lease(ttl_seconds=0.3), Candidate(lease(ttl_seconds=600), [])
    dead.hold()
    with running(follower):
        wait_until(lambda: follower.is_leader)


def test_lease_run_out_unnoticed_and_taken_again__a_new_leadership_begins() -> None:
    epochs: list[int] = []
    candidate = Candidate(
        lease(ttl_seconds=0.3), [], on_change=lambda leads: epochs.append(candidate.lease.epoch * leads)
    )
    with running(candidate):
        wait_until(lambda: candidate.is_leader)
        rival = lease()
        candidate.lease.client.delete(rival.holder_key)  # what is left of a lease that ran out in a pause
        rival.hold()
        rival.release()
        wait_until(lambda: len(epochs) > 1)
    assert epochs == [*sorted(set(epochs[:-1])), 0]


def test_lease_stolen__the_leader_steps_down_at_its_next_renewal() -> None:
    changes: list[bool] = []
    candidate = Candidate(lease(ttl_seconds=0.3), [], on_change=changes.append)
    with running(candidate):
        wait_until(lambda: candidate.is_leader)
        rival = lease()
        rival.client.delete(rival.holder_key)
        rival.hold()
        wait_until(lambda: not candidate.is_leader)
    assert changes == [True, False]
    assert rival.hold(), "a former leader cannot release its successor's lease"


def test_duty_raises__it_is_logged_and_the_next_duty_runs(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Lease) -> float:
        raise redis.ResponseError("WRONGTYPE")

    ran: list[bool] = []
    with running(Candidate(lease(), [duty(broken), duty(lambda _: ran.append(True))])):
        wait_until(lambda: len(ran) > 2)
    assert "duty failed lease=test" in caplog.text


def test_redis_does_not_answer__nobody_leads_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    away = threading.Event()

    def asks_redis(_: Lease) -> None:
        if away.is_set():
            raise redis.ConnectionError("gone")

    candidate = Candidate(lease(), [duty(asks_redis)])
    with running(candidate):
        wait_until(lambda: candidate.is_leader)
        away.set()
        wait_until(lambda: not candidate.is_leader)
        away.clear()
        wait_until(lambda: candidate.is_leader)
    assert caplog.text.count("redis_answers=False") == 1
