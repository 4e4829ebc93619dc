"""The scenarios. Each hurts a stage in one way and asks it for its result."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.test import override_settings

from bench.ticking.book import Book
from bench.ticking.stage import QUIET_TICKS, SETTINGS, Result, Stage, server, staged
from scaling_kit.embedded import Valkey
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.schedule import OVERLAP
from scaling_kit.testing import die_with_parent, wait_until
from tests.jobs.journal import Journal
from tests.scheduler.candidates import ROOT, Candidate, Candidates

LEASE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`peer` is what cron-cluster did, where that was measured."""

    name: str
    run: Callable[[Path], Result]
    peer: str = "not measured"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how often."""

    steady_seconds: int = 60
    kills: int = 5
    storm_seconds: int = 60
    storm_pairs: int = 10
    lossy_seconds: int = 20
    long_outage_seconds: int = 25
    slow_lease_kills: int = 2
    outlasting_seconds: int = 20


QUICK = Plan(
    steady_seconds=8,
    kills=1,
    storm_seconds=10,
    storm_pairs=3,
    lossy_seconds=6,
    long_outage_seconds=8,
    slow_lease_kills=1,
    outlasting_seconds=10,
)


def steady(folder: Path, seconds: float) -> Result:
    with staged(folder, 3) as stage:
        time.sleep(seconds - QUIET_TICKS)
        return stage.result()


def killed(folder: Path, times: int, *, lease_seconds: float = LEASE_SECONDS) -> Result:
    with staged(folder, 3, lease_seconds=lease_seconds) as stage:
        for _ in range(times):
            stage.wait_for_any_moment()
            with stage.fault():
                stage.kill(stage.leader())
            stage.group.start()
            stage.group.wait_for_leader()
            stage.wait_for_quiet()
        return stage.result()


def terminated(folder: Path, times: int) -> Result:
    with staged(folder, 3) as stage:
        statuses = []
        for _ in range(times):
            leader = stage.leader()
            stage.wait_for_any_moment()
            with stage.fault():
                leader.process.terminate()
            statuses.append(leader.process.wait())
            stage.killed += 1
            stage.group.start()
            stage.wait_for_quiet()
        stage.remarks.append(f"exit status {', '.join(map(str, sorted(set(statuses))))}")
        return stage.result()


def paused(folder: Path) -> Result:
    with staged(folder, 3) as stage:
        leader = stage.leader()
        stage.wait_for_any_moment()
        with stage.fault():
            leader.pause()
        time.sleep(3 * LEASE_SECONDS)  # the fault lasts so long
        leader.resume()
        stage.wait_for_quiet()
        return stage.result()


def server_killed(folder: Path, seconds: float) -> Result:
    """With its append-only file: it comes back with all it had acknowledged."""
    with staged(folder, 3) as stage:
        stage.wait_for_any_moment()
        with stage.fault(recovery_from_end=True):
            stage.stop_server()
            time.sleep(seconds)
            stage.start_server()
        return stage.result()


def server_killed_without_persistence(folder: Path, seconds: float) -> Result:
    """It comes back empty: jobs and watermarks are gone, and every schedule starts anew when somebody leads."""
    with staged(folder, 3, persistent=False) as stage:
        stage.wait_for_mid_second()
        killed_at = time.time()
        with stage.fault(recovery_from_end=True):
            stage.stop_server()
            time.sleep(seconds)
            stage.start_server()
        led_again_at = stage.book.reigns[-1].seen_at
        gone = range(math.floor(killed_at) + 1, math.floor(led_again_at) + 1)
        stage.remarks.append(f"{len(gone)} ticks of the gap went with the data")
        return stage.result(lost_with_the_data=gone)


def server_hung(folder: Path) -> Result:
    with staged(folder, 3) as stage:
        stage.wait_for_any_moment()
        with stage.fault(recovery_from_end=True):
            stage.process.send_signal(signal.SIGSTOP)
            time.sleep(5)  # the fault lasts so long
            stage.process.send_signal(signal.SIGCONT)
        return stage.result()


def cut_off_silently(folder: Path, leases: float) -> Result:
    """What it sends is not refused, but arrives when the network is mended: after its lease, with its old token."""
    with staged(folder, 3, proxied=True) as stage:
        proxy = stage.leader().proxy
        assert proxy
        with proxy.silent(from_request=b"cron-"):
            wait_until(lambda: not proxy.passes.is_set(), what="a claim is on its way")
            until = time.time() + leases * LEASE_SECONDS
            with stage.fault():
                pass
            time.sleep(max(0.0, until - time.time()))
        stage.wait_for_quiet()
        stage.remarks.append(f"{_said(folder, 'outcome=fenced')} claims arrived late and were refused")
        return stage.result()


def cut_off_and_refused(folder: Path) -> Result:
    with staged(folder, 3, proxied=True) as stage:
        leader = stage.leader()
        assert leader.proxy
        with leader.proxy.refusing():
            with stage.fault():
                pass
            time.sleep(3 * LEASE_SECONDS)  # the fault lasts so long
        stage.wait_for_quiet()
        return stage.result()


def replies_lost(folder: Path, seconds: float) -> Result:
    """Redis has done what was asked, and the leader does not learn of it: for each third of its scripts."""
    with staged(folder, 3, proxied=True) as stage:
        leader = stage.leader()
        assert leader.proxy
        sieve = leader.proxy.lose_every(lambda request, _: b"EVALSHA" in request, nth=3)
        time.sleep(seconds)
        result = stage.result()
        stage.remarks.append(f"{sieve.caught} replies lost, {_said(folder, 'outcome=mine')} claims asked for again")
        return result


def _said(folder: Path, what: str) -> int:
    return sum(what in line for line in (folder / "log").read_text().splitlines())


def storm(folder: Path, seconds: float, pairs: int) -> Result:
    """Pauses of up to three leases, and kills, at random; who was killed is started again, as by a supervisor."""
    dice = random.Random(7)
    counts = {"pauses": 0, "kills": 0}
    with staged(folder, 4, lease_seconds=1, TICKING_PAIRS=str(pairs)) as stage:
        until = time.time() + seconds
        asleep: dict[Candidate, float] = {}
        epoch, reigns = stage.book.epoch, len(stage.book.reigns)
        while time.time() < until:
            time.sleep(dice.uniform(0.1, 1.0))
            for one in [one for one, wake_at in asleep.items() if time.time() >= wake_at]:
                del asleep[one]
                one.resume()
            awake = [one for one in stage.group.alive if one not in asleep]
            if not awake:
                continue
            leader = stage.group.leader()
            victim = leader if leader in awake and dice.random() < 0.6 else dice.choice(awake)
            if dice.random() < 0.15:
                stage.kill(victim)
                stage.group.start()
                counts["kills"] += 1
            else:
                victim.pause()
                asleep[victim] = time.time() + dice.uniform(0.2, 3.0)
                counts["pauses"] += 1
        for one in asleep:
            one.resume()
        stage.wait_for_quiet()
        elections = len({reign.epoch for reign in stage.book.reigns[reigns:]} - {epoch})
        stage.remarks.append(
            f"{counts['pauses']} pauses, {counts['kills']} kills, {elections} elections, "
            f"{_said(folder, 'outcome=fenced')} claims refused"
        )
        return stage.result()


def two_applications(folder: Path) -> Result:
    """Apart by the key prefixes of the kit and of RQ, with schedules of the same names. The leader of one is killed."""
    names = ("one", "two")
    with server(folder) as (valkey, process), ExitStack() as stack:
        one, two = (stack.enter_context(_application(folder, name, valkey, process)) for name in names)
        with override_settings(SCALING_KIT_KEY_PREFIX="one"), one.fault():
            one.kill(one.leader())
        results = [one.result(), two.result()]
        noticed = len(two.book.reigns) > 1
        return Result(
            verdicts=[verdict for result in results for verdict in result.verdicts],
            recovered=one.recovered,
            alive=sum(result.alive for result in results),
            should_be_alive=sum(result.should_be_alive for result in results),
            remarks=["the other application had another leader, too" if noticed else "the other did not notice"],
        )


@contextmanager
def _application(folder: Path, name: str, valkey: Valkey, process: subprocess.Popen[bytes]) -> Iterator[Stage]:
    environment = {"RQ_KEY_PREFIX": f"rq-{name}"}
    group = Candidates(
        lease_seconds=LEASE_SECONDS, settings_module=SETTINGS, environment=environment, log=folder / "log"
    )
    with ExitStack() as stack:
        with override_settings(SCALING_KIT_KEY_PREFIX=name):
            book = stack.enter_context(Book(valkey.url, "default", rq_prefix=f"rq-{name}"))
            stack.callback(group.end)
            for _ in range(2):
                group.start()
            group.wait_until_joined()
        stage = Stage(server=valkey, process=process, group=group, book=book, stack=stack)
        stage.begin()
        yield stage


def outlasted(folder: Path, seconds: float, *, policy: str) -> Result:
    """Jobs of 2.5 s, due each second, on eight threads of a worker; the leader is killed while they run."""
    journal = Journal(folder / "journal")
    environment = {"TICKING_OVERLAPS": policy, "TICKING_JOURNAL": str(journal.path)}
    with staged(folder, 3, **environment) as stage, _worker(folder, stage, environment):
        until = time.time() + seconds
        wait_until(journal.executions, timeout_seconds=30, what="a long job runs")
        with stage.fault():
            stage.kill(stage.leader())
        time.sleep(max(0.0, until - time.time()))
        verdict = _accounts(f"long-{policy}")
        runs = journal.executions()
        together = max(sum(run.spans(other.started_at) for run in runs) for other in runs)
        stage.remarks.append(f"{len(runs)} jobs ran, at most {together} at once; {verdict}")
        return stage.result()


def _accounts(schedule: str) -> str:
    """Every tick since the first was enqueued or skipped: what the schedule's own state says, at one moment."""
    pipeline = client(Purpose.SCRIPT).pipeline(transaction=True)
    pipeline.hgetall(claim.state_key(schedule))
    pipeline.zrange(claim.history_key(schedule), 0, 0, withscores=True)
    state, [(_, first)] = pipeline.execute()
    expected = int(state["tick"]) - int(first) + 1
    enqueued, skipped = int(state["runs"]), int(state.get("overlapped", 0))
    behind = int(time.time()) - int(state["tick"])
    said = f"of {expected} ticks {enqueued} enqueued, {skipped} skipped, {expected - enqueued - skipped} lost"
    return said if behind <= 1 else f"{said}; {behind} held"


@contextmanager
def _worker(folder: Path, stage: Stage, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "django", "runworkers", "--settings", SETTINGS, "--queues", "long"]
    size = ["--mode", "threads", "--processes", "1", "--concurrency", "8"]
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *size],
            cwd=ROOT,
            env={**os.environ, "TICKING_REDIS_URL": stage.server.url, **environment},
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def scenarios(plan: Plan) -> list[Scenario]:
    return [
        Scenario(
            name=f"steady for {plan.steady_seconds} s, 3 candidates",
            run=partial(steady, seconds=plan.steady_seconds),
            peer="0 missed, 0 twice of 60; 3 of 3 alive",
        ),
        Scenario(
            name=f"leader killed (-9), {plan.kills} times; lease 2 s",
            run=partial(killed, times=plan.kills),
            peer="not measured with a lease of 2 s; with its 10 s see the next line",
        ),
        Scenario(
            name=f"leader killed (-9), {plan.slow_lease_kills} times; lease 10 s as cron-cluster's",
            run=partial(killed, times=plan.slow_lease_kills, lease_seconds=10),
            peer="6 to 9 missed each time, 0 twice; first tick after 6.1 to 9.8 s",
        ),
        Scenario(
            name=f"leader killed (-9), {plan.slow_lease_kills} times; lease 15 s, the default",
            run=partial(killed, times=plan.slow_lease_kills, lease_seconds=15),
        ),
        Scenario(name=f"leader gets SIGTERM, {plan.kills} times", run=partial(terminated, times=plan.kills)),
        Scenario(
            name="leader stopped for 3 leases, then CONT",
            run=paused,
            peer="5 to 11 missed, 0 twice; 5.9 to 11.2 s",
        ),
        Scenario(
            name="Redis killed for 5 s, appendonly on",
            run=partial(server_killed, seconds=5),
            peer="5 missed, 5 run too often: 6 in one second; 1.5 s. Without an error handler: all 3 processes dead",
        ),
        Scenario(
            name=f"Redis killed for {plan.long_outage_seconds} s, appendonly on",
            run=partial(server_killed, seconds=plan.long_outage_seconds),
            peer="26 to 32 missed, 25 to 32 run too often: 26 to 33 in one second; 2.1 to 8.6 s",
        ),
        Scenario(
            name="Redis killed for 5 s, appendonly off",
            run=partial(server_killed_without_persistence, seconds=5),
        ),
        Scenario(
            name=f"Redis killed for {plan.long_outage_seconds} s, appendonly off",
            run=partial(server_killed_without_persistence, seconds=plan.long_outage_seconds),
        ),
        Scenario(
            name="Redis hung for 5 s",
            run=server_hung,
            peer="4 missed, 4 run too often: 5 in one second",
        ),
        Scenario(
            name="leader cut off for 1.5 leases, packets held back, then delivered",
            run=partial(cut_off_silently, leases=1.5),
        ),
        Scenario(
            name="leader cut off for 3 leases, packets held back, then delivered",
            run=partial(cut_off_silently, leases=3),
        ),
        Scenario(name="leader cut off for 3 leases, connections refused", run=cut_off_and_refused),
        Scenario(
            name=f"each third reply to the leader lost, {plan.lossy_seconds} s",
            run=partial(replies_lost, seconds=plan.lossy_seconds),
        ),
        Scenario(
            name=f"storm of pauses and kills, {plan.storm_seconds} s, 4 candidates, {2 * plan.storm_pairs} schedules",
            run=partial(storm, seconds=plan.storm_seconds, pairs=plan.storm_pairs),
        ),
        *(
            Scenario(
                name=f'job outlasts its period, overlap="{policy}"',
                run=partial(outlasted, seconds=plan.outlasting_seconds, policy=policy),
                peer="no such policy; a job longer than the lease: 5 of 6 starts overlapped one that ran",
            )
            for policy in OVERLAP
        ),
        Scenario(
            name="two applications on one Redis, the leader of one killed",
            run=two_applications,
            peer="the second application never ran: 20 of 20 missed",
        ),
    ]
