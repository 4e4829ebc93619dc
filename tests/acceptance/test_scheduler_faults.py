"""Real scheduler processes, schedules of one second, and faults: no tick twice, none lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from scaling_kit import embedded, members
from scaling_kit.redis import RedisError
from scaling_kit.scheduler.status import snapshot
from scaling_kit.testing import die_with_parent, running, wait_until
from tests.scheduler.queue import ticks

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[bytes]


def start(lease_seconds: float) -> Process:
    environment = {
        **os.environ,
        "TICKING_KEY_PREFIX": settings.SCALING_KIT_KEY_PREFIX,
        "TICKING_LEASE_SECONDS": str(lease_seconds),
        "TICKING_REDIS_URL": settings.SCALING_KIT_REDIS_URL,
    }
    command = [sys.executable, "-m", "django", "runscheduler", "--settings", "tests.scheduler.project"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=die_with_parent)


@contextmanager
def started(count: int, *, lease_seconds: float) -> Iterator[list[Process]]:
    """`manage.py runscheduler`, several times; up and ticking."""
    processes = [start(lease_seconds) for _ in range(count)]
    try:
        wait_until(lambda: len(members.fetch_members()) == count and ticks("all"), timeout_seconds=20)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def leader(processes: list[Process]) -> Process | None:
    name = snapshot()["leader"]
    return next((process for process in processes if members.member_id(process.pid) == name), None)


def wait_for_leader(processes: list[Process], *, other_than: Process | None = None) -> Process:
    def found() -> Process | None:
        one = leader(processes)
        return one if one is not other_than else None

    found_one = wait_until(found)
    assert found_one is not None
    return found_one


def wait_for_ticks(count: int) -> None:
    """Until so many more ticks have been enqueued."""

    def last() -> int:
        try:
            return max(ticks("all"), default=0)
        except RedisError:
            return 0

    until = wait_until(last) + count
    wait_until(lambda: last() >= until, timeout_seconds=20)


def assert_each_tick_once() -> None:
    every = ticks("all")
    assert every == list(range(every[0], every[0] + len(every))), "catch_up=all: none twice, none lost, in order"
    coalesced = ticks("latest")
    assert coalesced == sorted(set(coalesced)), "catch_up=latest: none twice"
    assert abs(coalesced[-1] - every[-1]) <= 1


def gaps(schedule: str) -> list[int]:
    found = ticks(schedule)
    return [later - earlier for earlier, later in pairwise(found) if later - earlier > 1]


def test_three_candidates__one_leads() -> None:
    with started(3, lease_seconds=5) as processes:
        wait_for_ticks(4)
        states = wait_until(lambda: sorted(member["state"] for member in members.fetch_members()))
        assert states == ["leader", "standby", "standby"]
        assert wait_for_leader(processes)
        assert_each_tick_once()


def test_leader_killed__another_makes_up_for_the_gap() -> None:
    with started(2, lease_seconds=2) as processes:
        first = wait_for_leader(processes)
        first.kill()
        wait_for_leader(processes, other_than=first)
        wait_for_ticks(2)
        assert_each_tick_once()


def test_leader_terminated__exits_0_and_hands_over_before_the_lease_runs_out() -> None:
    with started(2, lease_seconds=60) as processes:
        first = wait_for_leader(processes)
        first.terminate()
        assert first.wait(timeout=10) == 0
        wait_for_leader(processes, other_than=first)
        assert len(members.fetch_members()) == 1
        wait_for_ticks(2)
        assert_each_tick_once()


def test_leader_paused_past_its_lease__enqueues_nothing_when_it_wakes() -> None:
    with started(2, lease_seconds=1) as processes:
        first = wait_for_leader(processes)
        first.send_signal(signal.SIGSTOP)
        wait_for_leader(processes, other_than=first)
        wait_for_ticks(3)
        first.send_signal(signal.SIGCONT)
        wait_for_ticks(3)
        assert_each_tick_once()
        assert [process.poll() for process in processes] == [None, None]


def test_redis_killed_and_restarted__the_processes_stay_and_catch_up(tmp_path: Path) -> None:
    server = embedded.Valkey(folder=tmp_path, port=embedded.free_port())
    with (
        override_settings(SCALING_KIT_REDIS_URL=server.url),
        running(server) as first_run,
        started(2, lease_seconds=2) as processes,
    ):
        wait_for_ticks(2)
        first_run.kill()
        first_run.wait()
        with pytest.raises(TimeoutError):
            wait_until(server.is_ready, timeout_seconds=3)
        with running(server):
            wait_for_ticks(5)
            assert_each_tick_once()
            assert gaps("latest"), "the ticks of the gap became one"
            assert [process.poll() for process in processes] == [None, None]
