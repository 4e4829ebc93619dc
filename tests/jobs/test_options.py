"""What `@task` and `using()` take: ttl, result_ttl, priorities by name, retry policies, many at once."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from rq.job import Job as RQJob
from rq.job import JobStatus

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.enqueuing import ENQUEUE
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.tasks import (
    PRIORITIES,
    InvalidTask,
    Retry,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_enqueued,
)
from scaling_kit.redis import PER_ROUND_TRIP
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.lossy import LossyProxy
from tests.jobs.test_backend import work_off_retries


def field(queues: Queues, job_id: str, name: str) -> Any:
    found = places.connection(queues.default).hget(places.job_key(job_id), name)
    return found.decode() if found is not None else None


def expires_at(queues: Queues, **options: Any) -> float:
    result = tasks.append.using(queue_name=queues.default, **options).enqueue("x")
    return float(field(queues, result.id, "kit_expires_at"))


# --- ttl


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
def test_ttl__is_counted_from_now(queues: Queues, ttl: Any) -> None:
    assert expires_at(queues, ttl=ttl) == pytest.approx(time.time() + 60, abs=2)


def test_ttl_of_a_delayed_job__is_counted_from_when_it_is_due(queues: Queues) -> None:
    found = expires_at(queues, ttl=60, run_after=timedelta(hours=1))
    assert found == pytest.approx(time.time() + 3660, abs=2)


def test_no_ttl__never_expires(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("x")
    assert field(queues, result.id, "kit_expires_at") is None


def test_waited_for_longer_than_its_ttl__fails_unrun(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default, ttl=0.01).enqueue("ran")
    wait_until(lambda: time.time() > float(field(queues, result.id, "kit_expires_at")))
    queues.work()
    result.refresh()
    assert (result.status, tasks.noted("ran")) == (TaskResultStatus.FAILED, [])


# --- result_ttl


def test_result_ttl_0__leaves_nothing_when_done(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default, result_ttl=0).enqueue("ran")
    queues.work()
    assert tasks.noted("ran") == ["None"]
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


@pytest.mark.parametrize(("ttl", "expected"), [(None, "86400"), (0, "0"), (5, "5"), (timedelta(minutes=1), "60")])
def test_result_ttl__of_the_task_else_of_the_setting(queues: Queues, ttl: Any, expected: str) -> None:
    result = tasks.append.using(queue_name=queues.default, result_ttl=ttl).enqueue("x")
    assert field(queues, result.id, "result_ttl") == expected


# --- priorities


def test_named_priorities__are_numbers_and_in_this_order(queues: Queues) -> None:
    for name in reversed(PRIORITIES):
        named = tasks.append.using(queue_name=queues.default, priority=name)
        assert named.priority == PRIORITIES[name]
        named.enqueue("order", name)
    queues.work()
    assert tasks.noted("order") == list(PRIORITIES) == ["critical", "high", "medium", "normal", "low"]


def test_named_priority_where_the_task_is_written__is_a_number() -> None:
    assert task(priority="high")(tasks.plain).priority == 50  # type: ignore[call-overload]


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0}, "ttl must be seconds above 0"),
        ({"ttl": "1h"}, "ttl must be"),
        ({"ttl": float("nan")}, "ttl must be"),
        ({"result_ttl": -1}, "result_ttl must be whole seconds"),
        ({"result_ttl": 0.5}, "result_ttl must be"),
        ({"timeout": 0.5}, "timeout must be whole seconds"),
        ({"timeout": True}, "timeout must be"),
        ({"unique": ""}, "unique must be True, False or a key"),
        ({"unique": 1}, "unique must be"),
        ({"on_commit": "nowhere"}, "alias of DATABASES"),
        ({"priority": "urgent"}, "one of critical, high, medium, normal, low"),
        ({"priority": 101}, "priority must be"),
        ({"retry": True}, "retry must be a Retry"),
        ({"retry": -1}, "count must be"),
        ({"retry": [1, "2"]}, "a delay must be a number"),
        ({"retry": [-1]}, "a delay must be"),
    ],
)
def test_wrong_option__refused_where_it_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        task(**options)(tasks.plain)
    with pytest.raises(InvalidTask, match=message):
        tasks.append.using(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 1.5}, "count must be a whole number"),
        ({"first_seconds": -1}, "first_seconds must be a number"),
        ({"jitter": float("inf")}, "jitter must be a number"),
        ({"backoff": "linear"}, "backoff must be 'exponential', 'fixed'"),
        ({"backoff": lambda done: 1.0}, "function of a module"),
        ({"only_for": ValueError}, "only_for must be a list"),
        ({"only_for": [int]}, "only_for takes exception classes"),
        ({"only_for": ["no such"]}, "only_for takes"),
    ],
)
def test_wrong_retry__refused_where_it_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        Retry(**options)


# --- retry policies


def test_backoffs__fixed_and_of_ones_own() -> None:
    fixed = Retry(backoff="fixed", first_seconds=3, jitter=0)
    own = Retry(backoff=tasks.every_seven_seconds, jitter=0)
    assert own.backoff == "tests.jobs.tasks.every_seven_seconds"
    assert [fixed.delay_seconds(done) for done in range(3)] == [3, 3, 3]
    assert [own.delay_seconds(done) for done in range(3)] == [7, 14, 21]


@pytest.mark.parametrize(
    "backoff", [tasks.backoff_that_raises, tasks.backoff_of_nonsense, "tests.jobs.tasks.is_no_more"]
)
def test_backoff_that_fails__is_exponential_and_logged(backoff: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert Retry(backoff=backoff, jitter=0).delay_seconds(2) == 4
    assert "taking the exponential one" in caplog.text


def test_retry__survives_its_way_to_the_worker() -> None:
    retry = Retry(count=2, backoff=tasks.every_seven_seconds, only_for=[ValueError, "redis.RedisError"])
    assert Retry.from_dict(retry.to_dict()) == retry


@pytest.mark.parametrize(
    ("only_for", "applies"),
    [
        ([], True),
        ([ValueError], True),
        ([LookupError, ValueError], True),
        (["ValueError"], True),
        (["builtins.Exception"], True),
        ([KeyError], False),
        (["package.that.IsGone"], False),
    ],
)
def test_only_for__limits_retries_to_these_and_what_derives_from_them(only_for: Any, applies: bool) -> None:
    assert Retry(only_for=only_for).applies_to(UnicodeError()) is applies


def test_only_for_by_another_name_of_the_class__applies() -> None:
    import redis

    assert Retry(only_for=["redis.ConnectionError"]).applies_to(redis.exceptions.ConnectionError())


@pytest.mark.parametrize(("kind", "attempts"), [("value", 3), ("unicode", 3), ("key", 1)])
def test_failed__is_retried_after_the_errors_that_the_policy_is_for(queues: Queues, kind: str, attempts: int) -> None:
    result = tasks.fail_with.using(queue_name=queues.default).enqueue(kind)
    work_off_retries(queues)
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, attempts)


def test_backoff_that_fails_in_the_worker__does_not_lose_the_job(queues: Queues) -> None:
    retry = Retry(count=1, backoff=tasks.backoff_that_raises)
    result = tasks.fail.using(queue_name=queues.default, retry=retry).enqueue("no")
    queues.work()
    [(_, due_at)] = places.connection(queues.default).zrange(
        places.scheduled_key(queues.default), 0, -1, withscores=True
    )
    assert due_at == pytest.approx(time.time() + 1, abs=1)
    assert field(queues, result.id, "status") == "scheduled"


# --- the fields, as RQ would have written them


def test_job__is_what_rq_would_have_written(queues: Queues) -> None:
    text = "ü" * 2000
    result = tasks.append.using(queue_name=queues.default, timeout=7, retry=2).enqueue("x", value=text)
    redis = places.connection(queues.default)
    job = Job.fetch(result.id, connection=redis)
    expected = RQJob.create(
        "scaling_kit.jobs.attempts.run_task",
        args=["tests.jobs.tasks.append", ["x"], {"value": text}],
        connection=redis,
        id=result.id,
        origin=queues.default,
        timeout=7,
        result_ttl=86400,
        failure_ttl=30 * 86400,
        description="tests.jobs.tasks.append",
        status=JobStatus.QUEUED,
    )
    same = ("func_name", "args", "kwargs", "origin", "timeout", "result_ttl", "failure_ttl", "description", "id")
    assert [getattr(job, name) for name in same] == [getattr(expected, name) for name in same]
    assert (job.get_status(), job.retries_left) == (JobStatus.QUEUED, 2)
    assert (datetime.now(UTC) - job.enqueued_at.replace(tzinfo=UTC)).total_seconds() < 10


# --- one round trip, and lost replies


def test_reply_to_an_enqueue_lost__is_one_job(queues: Queues, lossy: LossyProxy) -> None:
    lossy.lose_replies(2)
    tasks.append.using(queue_name=queues.default).enqueue("ran")
    assert lossy.lost == 2
    queues.work()
    assert tasks.noted("ran") == ["None"]


def test_reply_lost_and_the_job_done_and_removed_meanwhile__is_not_enqueued_again(queues: Queues) -> None:
    quick = tasks.append.using(queue_name=queues.default, result_ttl=0)
    job = quick.get_backend().prepare(quick, ["ran"], {})
    from scaling_kit.jobs.enqueuing import enqueue

    assert enqueue(queues.default, job) == job.id
    queues.work()
    places.connection(queues.default).delete(job.hash_key)
    assert enqueue(queues.default, job) == job.id
    queues.work()
    assert tasks.noted("ran") == ["None"]


# --- many


def test_enqueue_many__runs_all_in_order_and_tells_of_each(queues: Queues) -> None:
    told: list[str] = []
    task_enqueued.connect(lambda task_result, **_: told.append(task_result.id), dispatch_uid="test", weak=False)
    try:
        results = tasks.append.using(queue_name=queues.default).enqueue_many(
            [(("many", number), {}) for number in range(3)] + [(("many",), {"value": "last"})]
        )
    finally:
        task_enqueued.disconnect(dispatch_uid="test")
    assert told == [result.id for result in results]
    queues.work()
    assert tasks.noted("many") == ["0", "1", "2", "last"]
    assert tasks.append.using(queue_name=queues.default).enqueue_many([]) == []


def test_more_than_fit_in_a_round_trip__all_enqueued_after_redis_has_forgotten_the_script(queues: Queues) -> None:
    places.connection(queues.default).script_flush()
    results = tasks.append.using(queue_name=queues.default).enqueue_many([(("many",), {})] * (PER_ROUND_TRIP + 1))
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == len(results)
    assert places.connection(queues.default).script_exists(ENQUEUE.sha) == [True]


def test_reply_to_many_lost__each_is_one_job(queues: Queues, lossy: LossyProxy) -> None:
    lossy.lose_replies(1)
    tasks.append.using(queue_name=queues.default).enqueue_many([(("many", number), {}) for number in range(5)])
    assert lossy.lost == 1
    queues.work()
    assert tasks.noted("many") == ["0", "1", "2", "3", "4"]


def test_many_delayed__are_scheduled(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.default, run_after=timedelta(hours=1)).enqueue_many([(("x",), {})] * 2)
    assert places.connection(queues.default).zcard(places.scheduled_key(queues.default)) == 2


def test_aenqueue_many__is_the_same(queues: Queues) -> None:
    results = asyncio.run(tasks.append.using(queue_name=queues.default).aenqueue_many([(("many",), {})]))
    queues.work()
    assert asyncio.run(tasks.append.aget_result(results[0].id)).return_value is None
    assert tasks.noted("many") == ["None"]


# --- transactions, for every way

WAYS = {
    "enqueue": lambda found: found.enqueue("tx"),
    "delayed": lambda found: found.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("tx"),
    "priority": lambda found: found.using(priority="high").enqueue("tx"),
    "unique": lambda found: found.using(unique=True).enqueue("tx"),
    "many": lambda found: found.enqueue_many([(("tx",), {})]),
    "aenqueue": lambda found: async_to_sync(found.aenqueue)("tx"),
    "aenqueue_many": lambda found: async_to_sync(found.aenqueue_many)([(("tx",), {})]),
}
every_way = pytest.mark.parametrize("enqueue", WAYS.values(), ids=WAYS)


def jobs_there(queues: Queues) -> int:
    return len(list(places.connection(queues.default).scan_iter(f"rq:*:{queues.default}*")))


@pytest.mark.django_db(transaction=True)
@every_way
def test_rolled_back__enqueues_nothing(queues: Queues, enqueue: Any) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue(tasks.append.using(queue_name=queues.default))
        raise RuntimeError
    assert jobs_there(queues) == 0


@pytest.mark.django_db(transaction=True)
@every_way
def test_committed__enqueues_then(queues: Queues, enqueue: Any) -> None:
    with transaction.atomic():
        enqueue(tasks.append.using(queue_name=queues.default))
        assert jobs_there(queues) == 0
    assert jobs_there(queues) > 0


@every_way
def test_no_transaction__enqueues_at_once(queues: Queues, enqueue: Any) -> None:
    enqueue(tasks.append.using(queue_name=queues.default))
    assert jobs_there(queues) > 0


# --- checks


@override_settings(
    TASKS={
        "default": {"BACKEND": "scaling_kit.jobs.RQBackend", "OPTIONS": {"DATABASE": "nowhere", "RETRIES": 3}},
    }
)
def test_options_that_mean_nothing__are_found() -> None:
    found = {message.id: message.msg for message in run_checks()}
    assert "'RETRIES', which means nothing" in found["scaling_kit_jobs.W009"]
    assert "'nowhere', which is not in DATABASES" in found["scaling_kit_jobs.E010"]
