# ruff: noqa: F811  (fixtures are imported, and arguments)
"""Real `runworkers`, killed, stopped and reloaded with jobs in flight."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import django_rq
import pytest
from django.test import override_settings
from django.utils import timezone

from scaling_kit import recipes
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.tasks import TaskResultStatus
from scaling_kit.testing import running, wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet


def pid_of_the_job(name: str) -> int:
    started = wait_until(lambda: tasks.noted(name), what="the job has started")
    return int(started[0].split()[1])


def wait_for(name: str, *, ended: int = 1) -> list[str]:
    wait_until(lambda: tasks.noted(name).count("ended") == ended, what=f"{ended} ended, of {tasks.noted(name)}")
    return tasks.noted(name)


MODES = ["fork", "simple", "threads"]


@pytest.mark.parametrize("mode", MODES)
def test_jobs_of_every_kind__run_and_the_supervisor_ends_cleanly(queues: Queues, fleet: Fleet, mode: str) -> None:
    process = fleet.start("--processes", "2", "--mode", mode)
    now = tasks.add.using(queue_name=queues.low).enqueue(1, 2)
    later = tasks.add.using(queue_name=queues.high, run_after=timezone.now() + timedelta(seconds=0.5)).enqueue(3, 4)
    retried = tasks.third_time_lucky.using(queue_name=queues.default).enqueue()
    plain = django_rq.get_queue(queues.default, commit_mode="auto").enqueue(tasks.plain, "plain", "a")
    for result in (now, later, retried):
        wait_until(lambda result=result: result.refresh() or result.is_finished, what=str(result))
    assert [now.return_value, later.return_value, retried.return_value] == [3, 7, 3]
    assert later.started_at - later.task.run_after < timedelta(seconds=2)
    wait_until(lambda: plain.return_value(refresh=True) == "a")
    fleet.stop(process)


def test_child_killed__job_runs_again(queues: Queues, fleet: Fleet) -> None:
    fleet.start("--processes", "1")
    result = tasks.work_long_the_first_time.using(queue_name=queues.default).enqueue("job")
    os.kill(pid_of_the_job("job"), signal.SIGKILL)
    wait_for("job")
    wait_until(lambda: result.refresh() or result.is_finished)
    assert (result.status, result.attempts) == (TaskResultStatus.SUCCESSFUL, 2)
    assert result.errors[0].traceback == "killed by SIGKILL"


@pytest.mark.parametrize("mode", MODES)
def test_worker_killed__its_job_runs_again_and_not_beside_itself(queues: Queues, fleet: Fleet, mode: str) -> None:
    process = fleet.start("--processes", "1", "--mode", mode)
    [worker] = fleet.worker_pids(1)
    tasks.work_long_the_first_time.using(queue_name=queues.default).enqueue("job")
    first = pid_of_the_job("job")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_running(first), what="the job died with its worker")
    wait_for("job")
    assert process.poll() is None


@pytest.mark.parametrize("queue_count", [1, 3])
def test_whole_group_killed__another_host_runs_the_job_once(queues: Queues, fleet: Fleet, queue_count: int) -> None:
    names = ["--queues", ",".join(queues.names[:queue_count])]
    process = fleet.start("--processes", "1", *names, TEST_WORKER_TTL="2")
    tasks.work_long_the_first_time.using(queue_name=queues.high).enqueue("job")
    first = pid_of_the_job("job")
    os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(first), what="nothing outlives the supervisor")
    fleet.start("--processes", "2", *names, TEST_WORKER_TTL="2")
    started = wait_until(lambda: "ended" in (noted := tasks.noted("job")) and noted, timeout_seconds=20)
    assert len(started) == 3, "started, started again, ended"


def test_job_longer_than_every_limit_of_silence__is_not_started_twice(queues: Queues, fleet: Fleet) -> None:
    fleet.start("--processes", "2", "--mode", "simple", TEST_WORKER_TTL="1")
    fleet.start("--processes", "1", "--mode", "simple", TEST_WORKER_TTL="1")
    tasks.work_for.using(queue_name=queues.default).enqueue("long", 6)
    wait_until(lambda: "ended" in tasks.noted("long"), timeout_seconds=12)
    assert len(tasks.noted("long")) == 2


def test_poison__fails_after_three_deaths_and_the_fleet_goes_on(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1", "--mode", "simple")
    result = tasks.kill_yourself.using(queue_name=queues.default).enqueue("poison")
    wait_until(lambda: result.refresh() or result.is_finished)
    assert (result.status, tasks.noted("poison")) == (TaskResultStatus.FAILED, ["started"] * 3)
    after = tasks.add.using(queue_name=queues.default).enqueue(1, 1)
    wait_until(lambda: after.refresh() or after.is_finished)
    assert process.poll() is None


def test_term__job_ends_within_the_grace_period(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1", "--grace", "8")
    tasks.work_for.using(queue_name=queues.default).enqueue("job", 1.5)
    pid_of_the_job("job")
    fleet.stop(process)
    assert len(tasks.noted("job")) == 2


@pytest.mark.parametrize("mode", MODES)
def test_term__what_outlasts_the_grace_period_is_back_at_the_head(queues: Queues, fleet: Fleet, mode: str) -> None:
    process = fleet.start("--processes", "1", "--grace", "0.3", "--mode", mode)
    result = tasks.work_for.using(queue_name=queues.default).enqueue("job", 60)
    first = pid_of_the_job("job")
    tasks.append.using(queue_name=queues.default).enqueue("behind it")
    fleet.stop(process)
    assert not is_running(first)
    head = places.connection(queues.default).lindex(places.queue_key(queues.default), 0)
    assert head is not None
    assert head.decode() == result.id


def test_quit__stops_at_once(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1")
    tasks.work_for.using(queue_name=queues.default).enqueue("job", 60)
    pid_of_the_job("job")
    process.send_signal(signal.SIGQUIT)
    process.wait(timeout=5)
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1


def test_ttin_ttou__one_more_one_less(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1")
    process.send_signal(signal.SIGTTIN)
    fleet.worker_pids(2)
    process.send_signal(signal.SIGTTOU)
    fleet.worker_pids(1)


def test_hup__replaces_every_worker_while_jobs_run(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "2", "--mode", "simple")
    before = set(fleet.worker_pids(2))
    tasks.work_for.using(queue_name=queues.default).enqueue("job", 3)
    pid_of_the_job("job")
    process.send_signal(signal.SIGHUP)
    results = []

    def replaced() -> bool:
        results.append(tasks.add.using(queue_name=queues.default).enqueue(1, 1))
        time.sleep(0.05)
        after = set(fleet.workers_of(process))
        return len(after) == 2 and not after & before

    wait_until(replaced, timeout_seconds=15)
    assert len(tasks.noted("job")) == 2, "the job in flight was let end"
    wait_until(lambda: all(result.refresh() or result.is_finished for result in results))
    waits = [(result.started_at - result.enqueued_at).total_seconds() for result in results]
    assert max(waits) < 1.0, "there was always a worker"
    fleet.stop(process)


def test_hup_with_code_that_cannot_be_loaded__the_old_workers_stay(queues: Queues, fleet: Fleet, tmp_path) -> None:
    (tmp_path / "breakable.py").write_text("from tests.jobs.settings import *\n")
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}", "PYTHONDONTWRITEBYTECODE": "1"}
    process = fleet.start("--processes", "1", "--settings", "breakable", **environment)
    before = fleet.worker_pids(1)
    (tmp_path / "breakable.py").write_text("raise RuntimeError('broken release')\n")
    process.send_signal(signal.SIGHUP)
    result = tasks.work_for.using(queue_name=queues.default).enqueue("job", 2)
    wait_until(lambda: result.refresh() or result.is_finished)
    assert fleet.worker_pids(1) == before
    assert "reload given up" in fleet.stop(process)


def test_crash_loop__ends_with_a_non_zero_status(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "1")

    def crash() -> bool:
        for pid in fleet.workers_of(process):
            os.kill(pid, signal.SIGKILL)
        return process.poll() is not None

    wait_until(crash, timeout_seconds=14)
    assert (process.returncode, "supervisor gives up" in fleet.log(process)) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, "CommandError: Redis at redis://127.0.0.1"),
        (["--queues", "nowhere"], {}, "CommandError: There is no queue 'nowhere' in RQ_QUEUES"),
        (["thumbnails"], {}, "runs RQ workers"),
        (["--processes", "0"], {}, "neither a number of processes nor 'auto'"),
    ],
)
def test_cannot_start__one_clear_line(
    fleet: Fleet, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    process = fleet.start(*arguments, wait=False, **environment)
    assert process.wait(timeout=10) != 0
    assert message in fleet.log(process).strip().splitlines()[-1]


def test_burst__ends_when_the_queues_are_empty(queues: Queues, fleet: Fleet) -> None:
    results = [tasks.add.using(queue_name=queues.default).enqueue(1, number) for number in range(5)]
    process = fleet.start("--processes", "2", "--burst", wait=False)
    assert process.wait(timeout=10) == 0
    for result in results:
        result.refresh()
    assert [result.return_value for result in results] == [1, 2, 3, 4, 5]


def test_redis_restarted__the_fleet_stays_and_goes_on(tmp_path: Path, keys_of_one_test: str) -> None:
    server = Valkey(folder=tmp_path / "valkey", port=free_port())
    names = [f"{keys_of_one_test}-{name}" for name in ("high", "default", "low")]
    mine = override_settings(
        SCALING_KIT_REDIS_URL=server.url,
        RQ_QUEUES=recipes.rq_queues(server.url, queues=names),
        TASKS=recipes.tasks(queues=["default", *names]),
    )
    with mine, Fleet(key_prefix=keys_of_one_test, folder=tmp_path).running() as fleet:
        with running(server):
            process = fleet.start("--processes", "1", REDIS_URL=server.url)
            before = fleet.worker_pids(1)
            meanwhile = tasks.add_slowly.using(queue_name=names[1]).enqueue(1, 2, seconds=1.5)
            wait_until(lambda: meanwhile.refresh() or meanwhile.status == TaskResultStatus.RUNNING)
        wait_until(lambda: "redis_reachable=False" in fleet.log(process) and "waiting to go on" in fleet.log(process))
        with running(server):
            result = tasks.add.using(queue_name=names[1]).enqueue(1, 1)
            wait_until(lambda: result.refresh() or result.is_finished)
            assert (process.poll(), fleet.workers_of(process)) == (None, before)
            meanwhile.refresh()
            assert (meanwhile.return_value, meanwhile.attempts) == (3, 1), "its outcome waited for Redis"
            assert "redis_reachable=True" in fleet.stop(process)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_term_right_after_the_start__ends_at_once(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "2", "--grace", "60", wait=False)
    wait_until(lambda: "worker started" in fleet.log(process))
    fleet.stop(process)
