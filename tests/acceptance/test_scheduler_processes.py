"""Real scheduler processes: who leads, how each ends, what is shown of them."""

import json
import signal
import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from scaling_kit import embedded, members
from scaling_kit.testing import wait_until
from tests.jobs.journal import Journal
from tests.scheduler.candidates import Candidate, Candidates, redis_of_its_own, started
from tests.scheduler.queue import assert_each_tick_once, gaps, wait_for_ticks


def test_three_candidates__one_leads() -> None:
    with started(3, lease_seconds=5) as group:
        wait_for_ticks(2)
        states = wait_until(lambda: sorted(member["state"] for member in members.fetch_members()))
        assert states == ["leader", "standby", "standby"]
        assert group.leader()
        assert_each_tick_once()


def test_leader_terminated__exits_0_and_hands_over_before_the_lease_runs_out() -> None:
    with started(2, lease_seconds=60) as group:
        first = group.wait_for_leader()
        first.process.terminate()
        assert first.process.wait(timeout=20) == 0
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


def test_terminated_while_redis_hangs__exits_0(tmp_path: Path) -> None:
    with redis_of_its_own(tmp_path) as (_, process), started(1, lease_seconds=2) as group:
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1)  # until the leader, too, waits for an answer
            group.all[0].process.terminate()
            assert group.all[0].process.wait(timeout=20) == 0
        finally:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_standby_told_to_end__exits_0_and_the_leader_stays(number: signal.Signals) -> None:
    with started(2, lease_seconds=5) as group:
        leader = group.wait_for_leader()
        [standby] = [one for one in group.all if one is not leader]
        standby.process.send_signal(number)
        assert standby.process.wait(timeout=20) == 0
        assert group.leader() is leader


def test_redis_unreachable_at_start__exits_1() -> None:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{embedded.free_port()}/0"):
        group = Candidates(lease_seconds=1)
        assert group.start().process.wait(timeout=20) == 1


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


def test_two_applications_on_one_redis__each_has_a_leader_and_all_its_ticks() -> None:
    with ExitStack() as stack:
        with override_settings(SCALING_KIT_KEY_PREFIX=f"{settings.SCALING_KIT_KEY_PREFIX}-other"):
            other = stack.enter_context(started(1, lease_seconds=15))
            other_leader = other.wait_for_leader()
        group = stack.enter_context(started(2, lease_seconds=1))
        group.wait_for_leader().kill()
        wait_for_ticks(3)
        assert_each_tick_once()
        with override_settings(SCALING_KIT_KEY_PREFIX=f"{settings.SCALING_KIT_KEY_PREFIX}-other"):
            assert_each_tick_once()
            assert not gaps("latest"), "nothing happened to this one"
            assert other.leader() is other_leader


def test_cluster_status__shows_who_leads_and_in_which_epoch_and_forgets_who_was_killed() -> None:
    with started(2, lease_seconds=2, environment={"TICKING_MEMBER_TTL_SECONDS": "2"}) as group:
        first = group.wait_for_leader()
        shown = wait_until(lambda: _schedulers_shown(leader=first))
        assert [shown[one.name]["state"] for one in group.all].count("standby") == 1
        epoch = int(shown[first.name]["epoch"])
        assert f"leader, epoch {epoch}" in cluster_status()

        first.kill()
        second = group.wait_for_leader(other_than=first)
        shown = wait_until(lambda: _schedulers_shown(leader=second))
        assert int(shown[second.name]["epoch"]) > epoch
        wait_until(lambda: first.name not in _schedulers_shown(), what="who was killed is forgotten")
        report = json.loads(cluster_status("--json"))["apps"]["scaling_kit_scheduler"]["snapshot"]
        assert (report["leader"], report["epoch"]) == (second.name, int(shown[second.name]["epoch"]))


def cluster_status(*options: str) -> str:
    out = StringIO()
    call_command("cluster", "status", *options, stdout=out)
    return out.getvalue()


def _schedulers_shown(*, leader: Candidate | None = None) -> dict[str, Any]:
    """What is shown of each scheduler process; nothing as long as the one given is not shown as leader."""
    shown = {
        member["id"]: member["info"]
        for member in json.loads(cluster_status("--json"))["members"]
        if member["role"] == "scheduler"
    }
    return shown if leader is None or shown.get(leader.name, {}).get("state") == "leader" else {}
