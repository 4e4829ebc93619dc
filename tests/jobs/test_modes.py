"""What a worker does in each of its modes."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from rq.command import send_stop_job_command
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.timeouts import JobTimeoutException

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.interrupts import JobStopped, Slot, ThreadDeadline
from scaling_kit.jobs.tasks import TaskResult, TaskResultStatus
from scaling_kit.jobs.worker import WORN_OUT
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.fleet import in_process_worker

MODES = ["fork", "simple", "threads"]


@contextlib.contextmanager
def soon(action: object) -> Iterator[None]:
    """Do something from another thread while the worker works."""
    thread = threading.Thread(target=action)  # type: ignore[arg-type]
    thread.start()
    yield
    thread.join(timeout=10)


def test_threads__jobs_that_wait_overlap(queues: Queues) -> None:
    results = [tasks.work_for.using(queue_name=queues.default).enqueue("overlap", 0.4) for _ in range(4)]
    with in_process_worker(queues.names, mode="threads", concurrency=4) as worker:
        worker.run()
    notes = [note.split()[0] for note in tasks.noted("overlap")]
    assert notes[:4] == ["started"] * 4
    for result in results:
        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL


def test_threads__no_more_than_the_concurrency_at_once(queues: Queues) -> None:
    for _ in range(3):
        tasks.work_for.using(queue_name=queues.default).enqueue("two", 0.2)
    with in_process_worker(queues.names, mode="threads", concurrency=2) as worker:
        worker.run()
    assert [note.split()[0] for note in tasks.noted("two")][:3] == ["started", "started", "ended"]


@pytest.mark.parametrize("mode", MODES)
def test_timeout__fails_with_a_reason_and_the_worker_goes_on(queues: Queues, mode: str) -> None:
    late = tasks.busy_for.using(queue_name=queues.default).enqueue(20)
    after = tasks.add.using(queue_name=queues.default).enqueue(1, 2)
    queues.work(mode=mode)
    late.refresh()
    after.refresh()
    assert late.errors[0].exception_class is JobTimeoutException
    assert "maximum timeout value (1 seconds)" in late.errors[0].traceback
    assert after.return_value == 3


@pytest.mark.parametrize("mode", MODES)
def test_stop_command_of_rq__ends_the_running_job_for_good(queues: Queues, mode: str) -> None:
    result = tasks.busy_and_retried.using(queue_name=queues.default).enqueue("stop", 20)

    def stop() -> None:
        wait_until(lambda: tasks.noted("stop"))
        send_stop_job_command(places.connection(queues.default), result.id)

    with soon(stop):
        queues.work(mode=mode)
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert result.errors[0].exception_class is JobStopped
    assert status_of(result) == JobStatus.STOPPED
    assert places.connection(queues.default).zscore(places.failed_key(queues.default), result.id)


@pytest.mark.parametrize("mode", MODES)
def test_get_current_job__is_the_task_in_hand(queues: Queues, mode: str) -> None:
    result = tasks.own_id.using(queue_name=queues.default).enqueue()
    queues.work(mode=mode)
    result.refresh()
    assert result.return_value == result.id


@pytest.mark.parametrize("mode", MODES)
def test_plain_job_that_depends_on_a_task__runs_after_it(queues: Queues, mode: str) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("order", "first")
    queue = places.stock_queue(queues.default)
    queue.enqueue(tasks.plain, "order", "second", depends_on=result.id)
    queues.work(mode=mode)
    assert tasks.noted("order") == ["first", "second"]


def test_max_jobs__ends_as_worn_out_after_so_many(queues: Queues) -> None:
    for number in range(5):
        tasks.append.using(queue_name=queues.default).enqueue("done", number)
    with in_process_worker(queues.names, max_jobs=3) as worker:
        assert worker.run() == WORN_OUT
    assert tasks.noted("done") == ["0", "1", "2"]


def test_max_memory__ends_as_worn_out_when_the_job_has_ended(queues: Queues) -> None:
    for number in range(2):
        tasks.append.using(queue_name=queues.default).enqueue("done", number)
    with in_process_worker(queues.names, max_memory_bytes=1) as worker:
        assert worker.run() == WORN_OUT
    assert tasks.noted("done") == ["0"]


def test_paused_queue__is_left_alone_until_it_is_resumed(queues: Queues) -> None:
    redis = places.connection(queues.default)
    tasks.append.using(queue_name=queues.high).enqueue("ran", "paused")
    tasks.append.using(queue_name=queues.low).enqueue("ran", "not paused")
    redis.sadd(places.paused_key(), queues.high)
    queues.work()
    assert tasks.noted("ran") == ["not paused"]
    redis.srem(places.paused_key(), queues.high)
    queues.work()
    assert tasks.noted("ran") == ["not paused", "paused"]


def test_paused_queue_with_jobs__does_not_keep_the_worker_busy(queues: Queues) -> None:
    redis = places.connection(queues.default)
    redis.sadd(places.paused_key(), queues.default)
    tasks.append.using(queue_name=queues.default).enqueue("ran")
    with in_process_worker(queues.names, burst=False) as worker:

        def stop_after_a_while() -> None:
            time.sleep(1.0)  # the test is about how often it asks in this time
            signal.raise_signal(signal.SIGTERM)

        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        with soon(stop_after_a_while):
            worker.run()
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 30


def test_waited_for_longer_than_its_ttl__fails_unrun_and_says_so(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("ran")
    redis = places.connection(queues.default)
    redis.hset(places.job_key(result.id), "kit_expires_at", str(time.time() - 1))
    queues.work()
    result.refresh()
    assert (result.status, tasks.noted("ran")) == (TaskResultStatus.FAILED, [])
    assert "ttl" in result.errors[0].traceback
    assert redis.zscore(places.failed_key(queues.default), result.id)


@pytest.mark.parametrize("mode", MODES)
def test_unique_lock__is_released_by_the_end_of_its_job_only(queues: Queues, mode: str) -> None:
    redis = places.connection(queues.default)
    for task in (tasks.append, tasks.plain_failing_task):
        result = task.using(queue_name=queues.default).enqueue("ran")
        lock = places.record_key(f"lock-{result.id}")
        redis.set(lock, result.id)
        redis.hset(places.job_key(result.id), "kit_unique", lock)
        queues.work(mode=mode)
        assert not redis.exists(lock)


def status_of(result: TaskResult) -> JobStatus:  # type: ignore[type-arg, unused-ignore]
    return RQJob.fetch(result.id, connection=places.connection(result.task.queue_name)).get_status()


def test_slot_interrupted_at_the_last_moment__does_no_harm_to_what_follows() -> None:
    slot = Slot(0)
    ended: list[int] = []

    def work() -> None:
        slot.belongs_to_this_thread()
        for number in range(2000):
            with contextlib.suppress(JobTimeoutException), ThreadDeadline(100):
                pass
            ended.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        slot.interrupt(JobTimeoutException)
    assert ended == list(range(2000))
