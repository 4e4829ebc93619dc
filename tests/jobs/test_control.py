"""Acting: what is done, by whom it is refused, and that two at once do it once."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django_rq import get_queue
from rq.job import Job as RQJob
from rq.registry import CanceledJobRegistry, DeferredJobRegistry

from scaling_kit.jobs import control, inspection, transitions
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.exceptions import (
    DuplicateJobError,
    JobsError,
    NobodyListensError,
    NoSuchJobError,
    NoSuchQueueError,
    WrongStateError,
)
from scaling_kit.jobs.tasks import TaskResultStatus
from scaling_kit.redis import key
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues


def enqueue(queues: Queues, value: object = None, **using: Any) -> str:
    return tasks.append.using(queue_name=queues.default, **using).enqueue("ran", value).id


def failed(queues: Queues) -> str:
    job_id = tasks.fail.using(queue_name=queues.default).enqueue("no").id
    queues.work()
    assert state_of(job_id) == "failed"
    return job_id


def state_of(job_id: str) -> str:
    return inspection.fetch_job(job_id).state


def counts(queues: Queues) -> inspection.QueueCounts:
    return inspection.fetch_counts([queues.default])[0]


def claim(queues: Queues, execution_id: str = "e1") -> str:
    found = transitions.claim(queues.names, "test-w1", execution_id)
    return found.job_id if isinstance(found, transitions.Claimed) else ""


@contextmanager
def events(queues: Queues, job_id: str) -> Iterator[list[dict[str, Any]]]:
    """What was published of a job in the block."""
    found: list[dict[str, Any]] = []
    with places.connection(queues.default).pubsub() as listener:
        listener.subscribe(key("jobs", "event", job_id))
        assert listener.get_message(timeout=5)
        yield found
        while message := listener.get_message(timeout=0.1):
            found.append(json.loads(message["data"]))


# --- cancel


@pytest.mark.parametrize("priority", [0, 7])
def test_waiting_job_canceled__is_not_run_and_says_so(queues: Queues, priority: int) -> None:
    job_id = enqueue(queues, priority=priority)
    with events(queues, job_id) as found:
        assert control.cancel(job_id) == "canceled"
        assert control.cancel(job_id) == "canceled", "again is no error"
    queues.work()
    assert tasks.noted("ran") == []
    assert [event["event"] for event in found] == ["canceled"]
    assert found[0]["queue"] == queues.default
    assert job_id in CanceledJobRegistry(queues.default, connection=places.connection(queues.default))
    result = tasks.append.get_result(job_id)
    assert result.status == TaskResultStatus.FAILED
    assert result.finished_at is not None


def test_scheduled_job_canceled__leaves_the_schedule(queues: Queues) -> None:
    job_id = enqueue(queues, run_after=timedelta(hours=1))
    control.cancel(job_id)
    assert (counts(queues).scheduled, state_of(job_id)) == (0, "canceled")


def test_running_job_canceled__asks_its_worker_to_stop(queues: Queues) -> None:
    job_id = enqueue(queues)
    claim(queues)
    with pytest.raises(NobodyListensError):
        control.cancel(job_id)
    with places.connection(queues.default).pubsub() as worker:
        worker.subscribe("rq:pubsub:test-w1")
        assert worker.get_message(timeout=5)
        assert control.cancel(job_id) == "stopping"
        message = worker.get_message(timeout=5)
    assert message is not None
    assert json.loads(message["data"]) == {"command": "stop-job", "job_id": job_id}
    assert state_of(job_id) == "running", "until its worker has stopped it"


def test_ended_job__cannot_be_canceled(queues: Queues) -> None:
    job_id = tasks.add.using(queue_name=queues.default).enqueue(1, 2).id
    queues.work()
    with pytest.raises(WrongStateError, match="finished"):
        control.cancel(job_id)


def test_plain_job_canceled__leaves_its_dependents_deferred_as_rq_does(queues: Queues) -> None:
    queue = get_queue(queues.default)
    first = queue.enqueue(tasks.plain, "plain", "1")
    second = queue.enqueue(tasks.plain, "plain", "2", depends_on=first)
    control.cancel(first.id)
    queues.work()
    assert tasks.noted("plain") == []
    assert second.id in DeferredJobRegistry(queue=queue)
    assert RQJob.fetch(first.id, connection=queue.connection).is_canceled
    control.retry(first.id)
    queues.work()
    assert tasks.noted("plain") == ["1", "2"]


def test_canceled_jobs_that_expired__are_dropped_by_the_next(queues: Queues) -> None:
    first = enqueue(queues)
    control.cancel(first)
    redis = places.connection(queues.default)
    assert redis.ttl(places.job_key(first)) > 0
    redis.delete(places.job_key(first))
    control.cancel(enqueue(queues))
    assert counts(queues).canceled == 1


def test_unknown_job__is_said_by_every_action(queues: Queues) -> None:
    for act in (control.cancel, control.retry, control.run_now, control.remove):
        with pytest.raises(NoSuchJobError):
            act("nothing")
    with pytest.raises(NoSuchJobError):
        control.set_priority("nothing", 1)


# --- retry


def test_failed_job_retried__has_all_its_retries_and_its_history(queues: Queues) -> None:
    job_id = failed(queues)
    redis = places.connection(queues.default)
    redis.hset(places.job_key(job_id), "kit_kills", 2)
    with events(queues, job_id) as found:
        control.retry(job_id)
    job = inspection.fetch_job(job_id)
    assert (job.state, job.retries_left, job.kills, job.attempts, len(job.history)) == ("waiting", 1, 0, 2, 2)
    assert redis.ttl(places.job_key(job_id)) == -1, "what waits does not expire"
    assert [event["event"] for event in found] == ["requeued"]
    queues.work()
    assert len(inspection.fetch_job(job_id).history) == 4, "with a retry, as the first time"


def test_retried_job_with_a_priority__keeps_it(queues: Queues) -> None:
    job_id = enqueue(queues, priority=9)
    control.cancel(job_id)
    enqueue(queues, "other")
    control.retry(job_id)
    assert claim(queues) == job_id


def test_retried_by_two_at_once__runs_once(queues: Queues) -> None:
    job_id = failed(queues)
    outcomes = at_once(8, lambda _: control.retry(job_id))
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, WrongStateError) for outcome in outcomes if outcome)
    assert places.connection(queues.default).lrange(places.queue_key(queues.default), 0, -1) == [job_id.encode()]


def test_plain_failed_job_retried__runs_again(queues: Queues) -> None:
    job = get_queue(queues.default).enqueue(tasks.plain_failing)
    queues.work()
    control.retry(job.id)
    queues.work()
    assert (state_of(job.id), inspection.fetch_job(job.id).attempts) == ("failed", 2)


def test_waiting_or_finished_job__cannot_be_retried(queues: Queues) -> None:
    job_id = enqueue(queues)
    with pytest.raises(WrongStateError) as caught:
        control.retry(job_id)
    assert caught.value.state == "queued"


def test_unique_job_canceled__frees_its_place_and_cannot_come_back_into_a_taken_one(queues: Queues) -> None:
    redis, lock = places.connection(queues.default), key("jobs", "unique", "digest")
    first, second = unique(queues, lock), enqueue(queues)
    control.cancel(first)
    assert redis.get(lock) is None
    redis.set(lock, second)
    redis.hset(places.job_key(second), "kit_unique", lock)
    with pytest.raises(DuplicateJobError) as caught:
        control.retry(first)
    assert caught.value.holder == second
    control.cancel(second)
    control.retry(first)
    assert redis.get(lock) == first.encode()


def test_unique_job_removed__frees_its_own_place_only(queues: Queues) -> None:
    redis, lock = places.connection(queues.default), key("jobs", "unique", "digest")
    first, second = unique(queues, lock), unique(queues, lock)
    control.remove(first)
    assert redis.get(lock) == second.encode()
    control.remove(second)
    assert redis.get(lock) is None


def unique(queues: Queues, lock: str) -> str:
    job_id, redis = enqueue(queues), places.connection(queues.default)
    redis.hset(places.job_key(job_id), "kit_unique", lock)
    redis.set(lock, job_id)
    return job_id


def test_rate_limited_plain_job__is_canceled_and_retried_by_rqs_rules(queues: Queues) -> None:
    from rq import RateLimit

    queue = get_queue(queues.default)
    limit = RateLimit(key=queues.default, concurrency=1)
    first, second = (queue.enqueue(tasks.plain, "plain", value, rate_limit=limit) for value in "12")
    assert (state_of(first.id), state_of(second.id)) == ("waiting", "deferred")
    control.cancel(first.id)
    assert state_of(second.id) == "waiting", "the place is free"
    control.retry(first.id)
    assert state_of(first.id) == "deferred"
    control.remove(second.id)
    assert state_of(first.id) == "waiting"


# --- priority, run now, remove


def test_priority_changed__moves_the_job(queues: Queues) -> None:
    first, second = enqueue(queues), enqueue(queues)
    with events(queues, second) as found:
        control.set_priority(second, 3)
    assert found[0]["priority"] == 3
    assert tasks.append.get_result(second).task.priority == 3
    control.set_priority(first, -3)
    assert [claim(queues, f"e{number}") for number in range(3)] == [second, first, ""]


def test_priority_of_a_scheduled_job__counts_when_it_is_due(queues: Queues) -> None:
    job_id = enqueue(queues, run_after=timedelta(hours=1))
    control.set_priority(job_id, 3)
    enqueue(queues)
    control.run_now(job_id)
    assert claim(queues) == job_id


def test_priority_of_a_running_job_or_out_of_range__is_refused(queues: Queues) -> None:
    job_id = enqueue(queues)
    with pytest.raises(ValueError, match="101"):
        control.set_priority(job_id, 101)
    claim(queues)
    with pytest.raises(WrongStateError, match="started"):
        control.set_priority(job_id, 1)


def test_run_now__queues_a_scheduled_job_once(queues: Queues) -> None:
    job_id = enqueue(queues, run_after=timedelta(hours=1))
    outcomes = at_once(4, lambda _: control.run_now(job_id))
    assert outcomes.count(None) == 1
    queues.work()
    assert tasks.noted("ran") == ["None"]


def test_removed__leaves_nothing(queues: Queues) -> None:
    job_id = failed(queues)
    redis = places.connection(queues.default)
    redis.xadd(places.log_key(job_id), {"message": "x"})
    with events(queues, job_id) as found:
        control.remove(job_id)
    assert [event["event"] for event in found] == ["removed"]
    assert list(redis.scan_iter(f"*{job_id}*")) == []
    assert counts(queues).failed == 0


def test_running_job__cannot_be_removed_but_its_ghost_can(queues: Queues) -> None:
    job_id = enqueue(queues)
    claim(queues)
    with pytest.raises(WrongStateError):
        control.remove(job_id)
    places.connection(queues.default).delete(f"rq:executions:{job_id}")
    control.remove(job_id)


# --- queues


def test_paused_queue__is_in_the_set_that_the_claim_reads_and_resuming_rings(queues: Queues) -> None:
    redis = places.connection(queues.default)
    control.pause(queues.default)
    control.pause(queues.default)
    assert redis.smembers(key("jobs", "paused")) == {queues.default.encode()}
    control.resume(queues.default)
    assert redis.smembers(key("jobs", "paused")) == set()
    assert redis.llen(places.bell_key(queues.default)) == 1
    with pytest.raises(NoSuchQueueError):
        control.pause("nowhere")


def test_emptied__has_nothing_that_waits_and_all_else(queues: Queues) -> None:
    for number in range(450):
        enqueue(queues, priority=number % 3)
    running = claim(queues)
    enqueue(queues, run_after=timedelta(hours=1))
    assert control.empty(queues.default, limit=200) == control.Tally(done=200, remaining=249)
    assert control.empty(queues.default) == control.Tally(done=249)
    assert (counts(queues).waiting, counts(queues).scheduled, state_of(running)) == (0, 1, "running")


def test_all_failed_retried__in_the_order_in_which_they_failed(queues: Queues) -> None:
    expected = [get_queue(queues.default).enqueue(tasks.plain_failing).id for _ in range(5)]
    queues.work()
    redis = places.connection(queues.default)
    redis.zadd(places.failed_key(queues.default), {"expired": 1, **{job: 9e9 + n for n, job in enumerate(expected)}})
    assert control.retry_failed(queues.default, limit=3).remaining == 3
    assert control.retry_failed(queues.default) == control.Tally(done=3)
    assert [claim(queues, f"e{number}") for number in range(5)] == expected


def test_all_failed_retried__steps_over_those_that_cannot(queues: Queues) -> None:
    first, second = failed(queues), failed(queues)
    redis = places.connection(queues.default)
    redis.hset(places.job_key(first), "status", "finished")
    assert control.retry_failed(queues.default) == control.Tally(done=1, skipped=1)
    assert state_of(second) == "waiting"


@pytest.mark.parametrize("state", inspection.FINAL_STATES)
def test_all_of_a_final_state_removed__and_no_other(queues: Queues, state: str) -> None:
    kept = enqueue(queues)
    ended = {"failed": failed, "finished": finished, "canceled": canceled}
    for make in ended.values():
        make(queues)
    assert control.remove_all(state, queues.default).done == (2 if state == "finished" else 1)
    left = counts(queues)
    assert getattr(left, state) == 0
    assert sum(getattr(left, other) for other in ended if other != state) >= 2
    assert kept
    with pytest.raises(ValueError, match="running"):
        control.remove_all("running", queues.default)


def finished(queues: Queues) -> str:
    job_id = tasks.add.using(queue_name=queues.default).enqueue(1, 2).id
    queues.work()
    return job_id


def canceled(queues: Queues) -> str:
    job_id = enqueue(queues)
    control.cancel(job_id)
    return job_id


# --- at once


def test_canceled_while_workers_claim__each_job_runs_or_is_canceled_never_both(queues: Queues) -> None:
    job_ids = [enqueue(queues, priority=number % 2) for number in range(300)]
    claimed: list[str] = []
    kept: list[str] = []

    def act(number: int) -> None:
        if number < 2:
            while job_id := claim(queues, f"{number}-{len(claimed)}-{threading.get_ident()}"):
                claimed.append(job_id)
            return
        for job_id in job_ids[number % 2 :: 2][:: -1 if number == 2 else 1]:
            with contextlib.suppress(JobsError):
                kept.extend([job_id] if control.cancel(job_id) == "canceled" else [])

    assert at_once(4, act) == [None] * 4
    assert sorted([*claimed, *set(kept)]) == sorted(job_ids)
    assert {state_of(job_id) for job_id in kept} <= {"canceled"}
    assert counts(queues).waiting == 0


def test_priority_changed_while_workers_claim__each_job_runs_once(queues: Queues) -> None:
    job_ids = [enqueue(queues) for _ in range(200)]
    claimed: list[str] = []

    def act(number: int) -> None:
        if number < 2:
            while job_id := claim(queues, f"{number}-{len(claimed)}-{threading.get_ident()}"):
                claimed.append(job_id)
            return
        for job_id in reversed(job_ids):
            with contextlib.suppress(WrongStateError):
                control.set_priority(job_id, number)

    assert at_once(4, act) == [None] * 4
    wait_until(lambda: not claim(queues, f"last-{len(claimed)}"))
    assert sorted(claimed) == sorted(job_ids)


def at_once(count: int, act: Callable[[int], object]) -> list[Exception | None]:
    """What each of so many threads that began together raised."""
    barrier, outcomes = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            act(number)
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
