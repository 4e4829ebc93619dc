# ruff: noqa: F811  (fixtures are imported, and arguments)
"""Real `runworkers` with threads, weights, limits on jobs and memory."""

import os
import signal

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.tasks import TaskResultStatus
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet


def test_threads_worker_killed__all_its_jobs_run_again(queues: Queues, fleet: Fleet) -> None:
    fleet.start("--processes", "1", "--mode", "threads", "--concurrency", "3")
    [worker] = fleet.worker_pids(1)
    names = ["a", "b", "c"]
    for name in names:
        tasks.work_long_the_first_time.using(queue_name=queues.default).enqueue(name)
    wait_until(lambda: all(tasks.noted(name) for name in names), what="all three run at once")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: all("ended" in tasks.noted(name) for name in names))
    assert [len(tasks.noted(name)) for name in names] == [3, 3, 3], "started, started again, ended"


def test_threads_term__what_ends_in_the_grace_is_done_and_the_rest_is_back_in_the_queue(
    queues: Queues, fleet: Fleet
) -> None:
    process = fleet.start("--processes", "1", "--mode", "threads", "--grace", "2")
    short = tasks.work_for.using(queue_name=queues.default).enqueue("short", 0.8)
    long = tasks.work_for.using(queue_name=queues.default).enqueue("long", 60)
    wait_until(lambda: tasks.noted("short") and tasks.noted("long"))
    fleet.stop(process)
    short.refresh()
    long.refresh()
    assert (short.status, long.status) == (TaskResultStatus.SUCCESSFUL, TaskResultStatus.READY)
    waiting = places.connection(queues.default).lrange(places.queue_key(queues.default), 0, -1)
    assert [job_id.decode() for job_id in waiting] == [long.id]


def test_threads_stuck_in_c_code_past_the_timeout__worker_is_replaced_and_the_others_end(
    queues: Queues, fleet: Fleet
) -> None:
    process = fleet.start("--processes", "1", "--mode", "threads")
    stuck = tasks.stuck_the_first_time.using(queue_name=queues.default).enqueue("stuck")
    other = tasks.work_for.using(queue_name=queues.default).enqueue("other", 3)
    wait_until(lambda: stuck.refresh() or stuck.is_finished, timeout_seconds=20)
    other.refresh()
    assert (stuck.status, stuck.attempts) == (TaskResultStatus.SUCCESSFUL, 2)
    assert (other.status, other.attempts) == (TaskResultStatus.SUCCESSFUL, 1)
    assert "worker stuck" in fleet.stop(process)


def test_max_jobs__workers_are_replaced_without_a_pause_and_every_job_runs(queues: Queues, fleet: Fleet) -> None:
    process = fleet.start("--processes", "2", "--mode", "simple", "--max-jobs", "3")
    results = [tasks.own_pid.using(queue_name=queues.default).enqueue() for _ in range(15)]
    for result in results:
        wait_until(lambda result=result: result.refresh() or result.is_finished)
    pids = [result.return_value for result in results]
    assert max(pids.count(pid) for pid in pids) <= 3
    assert "gives up" not in fleet.stop(process)


def test_max_memory__a_worker_that_has_grown_is_replaced_after_its_job(queues: Queues, fleet: Fleet) -> None:
    fleet.start("--processes", "1", "--mode", "simple", "--max-memory", "400M")
    before = fleet.worker_pids(1)
    results = [task.using(queue_name=queues.default).enqueue() for task in (tasks.grow, tasks.own_pid)]
    for result in results:
        wait_until(lambda result=result: result.refresh() or result.is_finished)
    assert results[0].return_value == before[0]
    assert results[1].return_value != before[0]


def test_weights__a_busy_queue_does_not_starve_the_other(queues: Queues, fleet: Fleet) -> None:
    for _ in range(40):
        tasks.append.using(queue_name=queues.high).enqueue("ran", "high")
        tasks.append.using(queue_name=queues.low).enqueue("ran", "low")
    fleet.start("--processes", "1", "--mode", "simple", "--queues", f"{queues.high}=3,{queues.low}=1")
    wait_until(lambda: len(tasks.noted("ran")) == 80)
    first_half = tasks.noted("ran")[:40]
    assert 2 < first_half.count("low") < 20
