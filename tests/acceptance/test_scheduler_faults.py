"""Real scheduler processes, schedules of one second, and faults: no tick twice, none lost."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings

from scaling_kit import members
from scaling_kit.testing import running, wait_until
from tests.jobs.proxy import Proxy
from tests.scheduler.candidates import Candidate, Candidates, redis_of_its_own, started
from tests.scheduler.queue import assert_each_tick_once, gaps, ticks, wait_for_ticks


@contextmanager
def started_by_proxies(count: int, *, lease_seconds: float, **options: Any) -> Iterator[Candidates]:
    """Each with a way to Redis of its own."""
    with ExitStack() as stack:

        def proxy() -> Proxy:
            return stack.enter_context(Proxy(settings.SCALING_KIT_REDIS_URL))

        yield stack.enter_context(started(count, lease_seconds=lease_seconds, each_by=proxy, **options))


def test_leader_killed__another_makes_up_for_the_gap() -> None:
    with started(2, lease_seconds=2) as group:
        first = group.wait_for_leader()
        first.kill()
        group.wait_for_leader(other_than=first)
        wait_for_ticks(2)
        assert_each_tick_once()


def test_leader_cut_off_from_redis__another_leads() -> None:
    with started_by_proxies(2, lease_seconds=1) as group:
        first = group.wait_for_leader()
        assert first.proxy
        with first.proxy.refusing():
            group.wait_for_leader(other_than=first)
            wait_for_ticks(2)
        wait_for_ticks(2)
        assert_each_tick_once()
        assert len(group.alive) == 2


def test_leader_cut_off_silently__its_claim_arrives_when_another_leads_and_is_refused() -> None:
    with started_by_proxies(2, lease_seconds=2, environment={"TICKING_MEMBER_TTL_SECONDS": "2"}) as group:
        first = group.wait_for_leader()
        assert first.proxy
        with first.proxy.silent(from_request=b"cron-"):
            group.wait_for_leader(other_than=first)
            wait_for_ticks(1)
        wait_until(
            lambda: members.fetch_totals().get("scheduler.fenced"), timeout_seconds=30, what="the claim is refused"
        )
        wait_for_ticks(1)
        assert_each_tick_once()
        assert len(group.alive) == 2


def test_replies_to_the_leader_lost__no_tick_lost_or_twice() -> None:
    with started_by_proxies(2, lease_seconds=5) as group:
        proxy = group.wait_for_leader().proxy
        assert proxy
        sieve = proxy.lose_every(lambda request, reply: b"EVALSHA" in request and b"cron-" in request, nth=2)
        wait_until(lambda: sieve.caught >= 4, timeout_seconds=30, what="claims were done whose replies were lost")
        wait_for_ticks(1)
        assert_each_tick_once()


def test_redis_killed_and_restarted__the_processes_stay_and_catch_up(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path) as (server, first_run), started(2, lease_seconds=1) as group:
        first_run.kill()
        first_run.wait()
        time.sleep(2.5)  # past the lease; the fault lasts so long
        with running(server):
            wait_for_ticks(3)
            assert_each_tick_once()
            assert gaps("latest"), "the ticks of the gap became one"
            assert len(group.alive) == 2


def test_redis_restarted_without_its_data__every_schedule_starts_anew(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path, persistent=False) as (server, first_run), started(2, lease_seconds=1) as group:
        before = ticks("all")
        first_run.kill()
        first_run.wait()
        restarted_at = int(time.time())
        with running(server):
            wait_for_ticks(2)
            assert ticks("all")[0] > max(before[-1], restarted_at - 1), "no back-fill, and nothing of before again"
            assert_each_tick_once()
            assert len(group.alive) == 2


def test_redis_hung__nobody_leads_meanwhile_and_the_gap_is_made_up_for(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path) as (_, process), started(2, lease_seconds=1) as group:
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)  # the fault lasts so long; there is nothing to wait for
        process.send_signal(signal.SIGCONT)
        wait_for_ticks(2)
        assert_each_tick_once()
        assert len(group.alive) == 2


def test_storm_of_pauses_and_kills__no_tick_lost_or_twice() -> None:
    dice = random.Random(4)
    with started(3, lease_seconds=1, environment={"TICKING_PAIRS": "3"}) as group:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            victim = _awake(group, dice)
            if dice.random() < 0.2:
                victim.kill()
                group.start()
            else:
                victim.pause()
                time.sleep(dice.uniform(0.2, 1.5))
                victim.resume()
            time.sleep(dice.uniform(0.0, 0.5))
        wait_for_ticks(2)
        for number in ("", "2-", "3-"):
            assert_each_tick_once(number)


def _awake(group: Candidates, dice: random.Random) -> Candidate:
    """Rather the leader than another."""
    leader = group.leader()
    return leader if leader and leader.is_alive and dice.random() < 0.7 else dice.choice(list(group.alive))
