"""Real scheduler processes, schedules of one second, and faults: no tick twice, none lost."""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from scaling_kit import embedded, members
from scaling_kit.redis import RedisError
from scaling_kit.testing import running, wait_until
from tests.jobs.journal import Journal
from tests.jobs.proxy import Proxy
from tests.scheduler.candidates import Candidate, Candidates, candidates
from tests.scheduler.queue import ticks


@contextmanager
def started(count: int, *, lease_seconds: float, **options: Any) -> Iterator[Candidates]:
    """`manage.py runscheduler`, several times; up and ticking."""
    with candidates(count, lease_seconds=lease_seconds, **options) as group:
        wait_for_ticks(1)
        yield group


@contextmanager
def started_by_proxies(count: int, *, lease_seconds: float) -> Iterator[Candidates]:
    """Each with a way to Redis of its own."""
    with ExitStack() as stack:

        def proxy() -> Proxy:
            return stack.enter_context(Proxy(settings.SCALING_KIT_REDIS_URL))

        yield stack.enter_context(started(count, lease_seconds=lease_seconds, each_by=proxy))


@contextmanager
def redis_of_its_own(folder: Path, *, persistent: bool = True) -> Iterator[tuple[embedded.Valkey, Popen[bytes]]]:
    server = embedded.Valkey(folder=folder, port=embedded.free_port(), persistent=persistent)
    with override_settings(SCALING_KIT_REDIS_URL=server.url), running(server) as process:
        yield server, process


def last_tick() -> int:
    try:
        return max(ticks("all"), default=0)
    except RedisError:
        return 0


def wait_for_ticks(count: int) -> None:
    """Until so many ticks of seconds yet to come have been enqueued."""
    until = int(time.time()) + count
    wait_until(lambda: last_tick() >= until, timeout_seconds=30, what=f"{count} more ticks")


def assert_each_tick_once(number: str = "") -> None:
    every = ticks(f"{number}all")
    assert every == list(range(every[0], every[0] + len(every))), "catch_up=all: none twice, none lost, in order"
    coalesced = ticks(f"{number}latest")
    assert coalesced == sorted(set(coalesced)), "catch_up=latest: none twice"
    assert abs(coalesced[-1] - every[-1]) <= 1


def gaps(schedule: str) -> list[int]:
    return [later - earlier for earlier, later in pairwise(ticks(schedule)) if later - earlier > 1]


def cluster_status(*options: str) -> str:
    out = StringIO()
    call_command("cluster", "status", *options, stdout=out)
    return out.getvalue()


def test_three_candidates__one_leads() -> None:
    with started(3, lease_seconds=5) as group:
        wait_for_ticks(3)
        states = wait_until(lambda: sorted(member["state"] for member in members.fetch_members()))
        assert states == ["leader", "standby", "standby"]
        assert group.leader()
        assert_each_tick_once()


def test_leader_killed__another_makes_up_for_the_gap() -> None:
    with started(2, lease_seconds=2) as group:
        first = group.wait_for_leader()
        first.kill()
        group.wait_for_leader(other_than=first)
        wait_for_ticks(2)
        assert_each_tick_once()


def test_leader_terminated__exits_0_and_hands_over_before_the_lease_runs_out() -> None:
    with started(2, lease_seconds=60) as group:
        first = group.wait_for_leader()
        first.process.terminate()
        assert first.process.wait(timeout=10) == 0
        group.wait_for_leader(other_than=first)
        assert len(members.fetch_members()) == 1
        wait_for_ticks(2)
        assert_each_tick_once()


def test_leader_terminated_while_it_enqueues__ends_that_first_and_hands_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with started(2, lease_seconds=60, environment={"TICKING_SLOW_JOURNAL": str(journal.path)}) as group:
        first = group.wait_for_leader()
        count = len(journal.executions())
        wait_until(lambda: len(journal.executions()) > count, what="it is enqueuing")
        first.process.terminate()
        assert first.process.wait(timeout=20) == 0
        assert all(run.ended_at for run in journal.executions() if run.pid == first.process.pid)
        group.wait_for_leader(other_than=first)
        wait_for_ticks(1)
        assert_each_tick_once()


def test_leader_paused_past_its_lease__enqueues_nothing_when_it_wakes() -> None:
    with started(2, lease_seconds=1) as group:
        first = group.wait_for_leader()
        first.pause()
        group.wait_for_leader(other_than=first)
        wait_for_ticks(2)
        first.resume()
        wait_for_ticks(2)
        assert_each_tick_once()
        assert len(group.alive) == 2


@pytest.mark.parametrize("cut_off", [Proxy.silent, Proxy.refusing], ids=["packets-held-back", "refused"])
def test_leader_cut_off_from_redis__another_leads_and_what_it_sent_is_refused(cut_off: Callable[[Proxy], Any]) -> None:
    with started_by_proxies(2, lease_seconds=1) as group:
        first = group.wait_for_leader()
        assert first.proxy
        with cut_off(first.proxy):
            second = group.wait_for_leader(other_than=first)
            wait_for_ticks(2)
        wait_for_ticks(2)
        assert_each_tick_once()
        assert group.leader() is second
        assert len(group.alive) == 2


def test_replies_to_the_leader_lost__no_tick_lost_or_twice() -> None:
    with started_by_proxies(2, lease_seconds=5) as group:
        proxy = group.wait_for_leader().proxy
        assert proxy
        sieve = proxy.lose_every(lambda request, reply: b"EVALSHA" in request[:32], nth=3)
        wait_until(lambda: sieve.caught >= 5, timeout_seconds=30)
        wait_for_ticks(1)
        assert_each_tick_once()


def test_redis_killed_and_restarted__the_processes_stay_and_catch_up(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path) as (server, first_run), started(2, lease_seconds=2) as group:
        first_run.kill()
        first_run.wait()
        with pytest.raises(TimeoutError):
            wait_until(server.is_ready, timeout_seconds=3)
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


def test_terminated_while_redis_hangs__exits_0(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path) as (_, process), started(1, lease_seconds=2) as group:
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1)  # until the leader, too, waits for an answer
            group.all[0].process.terminate()
            assert group.all[0].process.wait(timeout=10) == 0
        finally:
            process.send_signal(signal.SIGCONT)


def test_one_alone__goes_on_after_a_pause_and_after_its_end() -> None:
    with started(1, lease_seconds=1) as group:
        group.all[0].pause()
        time.sleep(2.5)  # past its lease; there is nobody to wait for
        group.all[0].resume()
        wait_for_ticks(1)
        group.all[0].kill()
        group.start()
        wait_for_ticks(1)
        assert_each_tick_once()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_standby_told_to_end__exits_0_and_the_leader_stays(number: signal.Signals) -> None:
    with started(2, lease_seconds=5) as group:
        leader = group.wait_for_leader()
        [standby] = [one for one in group.all if one is not leader]
        standby.process.send_signal(number)
        assert standby.process.wait(timeout=10) == 0
        assert group.leader() is leader


def test_redis_unreachable_at_start__exits_1() -> None:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{embedded.free_port()}/0"):
        group = Candidates(lease_seconds=1)
        assert group.start().process.wait(timeout=20) == 1


def test_two_applications_on_one_redis__each_has_a_leader_and_all_its_ticks() -> None:
    with ExitStack() as stack:
        with override_settings(SCALING_KIT_KEY_PREFIX=f"{settings.SCALING_KIT_KEY_PREFIX}-other"):
            other = stack.enter_context(started(1, lease_seconds=1))
            other_leader = other.wait_for_leader()
        group = stack.enter_context(started(2, lease_seconds=1))
        group.wait_for_leader().kill()
        wait_for_ticks(3)
        assert_each_tick_once()
        with override_settings(SCALING_KIT_KEY_PREFIX=f"{settings.SCALING_KIT_KEY_PREFIX}-other"):
            assert_each_tick_once()
            assert not gaps("latest"), "nothing happened to this one"
            assert other.leader() is other_leader


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


def test_cluster_status__shows_who_leads_and_in_which_epoch_and_forgets_who_was_killed() -> None:
    with started(2, lease_seconds=1, environment={"TICKING_MEMBER_TTL_SECONDS": "2"}) as group:
        first = group.wait_for_leader()
        shown = wait_until(lambda: _schedulers_shown(leader=first))
        assert [shown[one.name]["state"] for one in group.all].count("standby") == 1
        epoch = int(shown[first.name]["epoch"])
        assert "state=leader" in cluster_status()

        first.kill()
        second = group.wait_for_leader(other_than=first)
        shown = wait_until(lambda: _schedulers_shown(leader=second))
        assert int(shown[second.name]["epoch"]) > epoch
        wait_until(lambda: first.name not in _schedulers_shown(), what="who was killed is forgotten")
        report = json.loads(cluster_status("--json"))["apps"]["scaling_kit_scheduler"]["snapshot"]
        assert (report["leader"], report["epoch"]) == (second.name, int(shown[second.name]["epoch"]))


def _schedulers_shown(*, leader: Candidate | None = None) -> dict[str, Any]:
    """What is shown of each scheduler process; nothing as long as the one given is not shown as leader."""
    shown = {
        member["id"]: member["info"]
        for member in json.loads(cluster_status("--json"))["members"]
        if member["role"] == "scheduler"
    }
    return shown if leader is None or shown.get(leader.name, {}).get("state") == "leader" else {}
