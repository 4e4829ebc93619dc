"""Plain django-rq jobs: every way of enqueuing, and what a transaction, or a reply that is lost, does to it."""

import contextlib
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import django_rq
import pytest
import redis
import rq
import rq.decorators
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from rq.exceptions import DuplicateJobError
from rq.group import Group
from rq.job import Job, JobStatus

from scaling_kit import recipes
from scaling_kit.jobs import plain
from scaling_kit.jobs import queues as places
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.lossy import LossyProxy

SOON = timedelta(hours=1)
Enqueue = Callable[[plain.Queue], Any]


def delayed(queue: plain.Queue) -> Any:
    """As `@job` does; of a copy, so that `plain` itself is left as it is."""
    function = types.FunctionType(tasks.plain.__code__, vars(tasks), "plain")
    decorated: Any = rq.decorators.job(queue, connection=queue.connection)(function)
    return decorated.delay("ran", "x")


def by_pipeline(queue: plain.Queue) -> Any:
    with queue.connection.pipeline() as pipeline:
        job = queue.enqueue(tasks.plain, "ran", "x", pipeline=pipeline)
        pipeline.execute()
    return job


def one_of_many(queue: plain.Queue) -> Any:
    return queue.enqueue_many([queue.prepare_data(tasks.plain, args=("ran", "x"))])[0]


def dependent(queue: plain.Queue) -> Any:
    first = queue.enqueue(tasks.plain, "first", "x")
    return queue.enqueue(tasks.plain, "ran", "x", depends_on=first)


def dependent_of_many(queue: plain.Queue) -> Any:
    first = queue.enqueue(tasks.plain, "first", "x")
    data = queue.prepare_data(tasks.plain, args=("ran", "x"), depends_on=first)
    return queue.enqueue_many([queue.prepare_data(tasks.plain, args=("first", "x")), data])[1]


WAYS: dict[str, Enqueue] = {
    "enqueue": lambda queue: queue.enqueue(tasks.plain, "ran", "x"),
    "enqueue_call": lambda queue: queue.enqueue_call(tasks.plain, ("ran", "x")),
    "delay": delayed,
    "enqueue_at": lambda queue: queue.enqueue_at(datetime.now(UTC) + SOON, tasks.plain, "ran", "x"),
    "enqueue_in": lambda queue: queue.enqueue_in(SOON, tasks.plain, "ran", "x"),
    "enqueue_many": one_of_many,
    "enqueue_job": lambda queue: queue.enqueue_job(queue.create_job(tasks.plain, args=("ran", "x"))),
    "unique": lambda queue: queue.enqueue(tasks.plain, "ran", "x", job_id=f"{queue.name}-1", unique=True),
    "pipeline": by_pipeline,
    "depends_on": dependent,
    "depends_on of many": dependent_of_many,
}
every_way = pytest.mark.parametrize("enqueue", WAYS.values(), ids=WAYS)


def queue_of(queues: Queues, **options: Any) -> plain.Queue:
    queue = django_rq.get_queue(queues.default, **options)
    assert isinstance(queue, plain.Queue)
    return queue


def run_all(queues: Queues) -> list[str]:
    redis = places.connection(queues.default)
    for job_id in redis.zrange(places.scheduled_key(queues.default), 0, -1):
        redis.zrem(places.scheduled_key(queues.default), job_id)
        redis.rpush(places.queue_key(queues.default), job_id)
    queues.work()
    return tasks.noted("ran")


@every_way
def test_without_a_transaction__enqueues_at_once(queues: Queues, enqueue: Enqueue) -> None:
    job = enqueue(queue_of(queues))
    assert Job.exists(job.id, places.connection(queues.default))
    assert run_all(queues) == ["x"]


@pytest.mark.django_db(transaction=True)
@every_way
def test_rolled_back__enqueues_nothing(queues: Queues, enqueue: Enqueue) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        job = enqueue(queue_of(queues))
        raise RuntimeError
    assert not Job.exists(job.id, places.connection(queues.default))
    assert run_all(queues) == []


@pytest.mark.django_db(transaction=True)
@every_way
def test_committed__enqueues_then(queues: Queues, enqueue: Enqueue) -> None:
    with transaction.atomic():
        job = enqueue(queue_of(queues))
        assert not Job.exists(job.id, places.connection(queues.default))
    assert Job.exists(job.id, places.connection(queues.default))
    assert run_all(queues) == ["x"]


@pytest.mark.django_db(transaction=True)
@every_way
def test_commit_mode_auto__does_not_wait(queues: Queues, enqueue: Enqueue) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue(queue_of(queues, commit_mode="auto"))
        raise RuntimeError
    assert run_all(queues) == ["x"]


@pytest.mark.django_db(transaction=True)
def test_arguments_changed_before_the_commit__are_those_of_the_call(queues: Queues) -> None:
    values = ["before"]
    with transaction.atomic():
        queue_of(queues).enqueue(tasks.plain, "ran", values)
        values.append("after")
    assert run_all(queues) == ["['before']"]


@pytest.mark.django_db(transaction=True)
def test_duplicate_found_at_the_commit__keeps_nothing_else_from_being_enqueued(queues: Queues) -> None:
    queue = queue_of(queues)
    WAYS["unique"](queue)
    with transaction.atomic():
        WAYS["unique"](queue)
        queue.enqueue(tasks.plain, "ran", "other")
    assert run_all(queues) == ["x", "other"]


def test_duplicate_without_a_transaction__raises(queues: Queues) -> None:
    WAYS["unique"](queue_of(queues))
    with pytest.raises(DuplicateJobError):
        WAYS["unique"](queue_of(queues))


def test_same_id_again_after_it_ran__runs_again(queues: Queues) -> None:
    """As with RQ: only `unique=True` refuses it."""
    for _ in range(2):
        queue_of(queues).enqueue(tasks.plain, "ran", "x", job_id=f"{queues.default}-1")
        queues.work()
    assert tasks.noted("ran") == ["x", "x"]


def test_at_front_and_ttl__are_kept(queues: Queues) -> None:
    queue = queue_of(queues)
    queue.enqueue(tasks.plain, "ran", "second")
    first = queue.enqueue(tasks.plain, "ran", "first", at_front=True, ttl=60)
    assert 0 < places.connection(queues.default).ttl(first.key) <= 60
    assert run_all(queues) == ["first", "second"]


@every_way
def test_written_as_rq_would__and_read_by_it(queues: Queues, enqueue: Enqueue) -> None:
    job = enqueue(queue_of(queues))
    found = Job.fetch(job.id, connection=places.connection(queues.default), serializer=queue_of(queues).serializer)
    assert (found.func_name, found.args, found.origin) == ("tests.jobs.tasks.plain", ["ran", "x"], queues.default)
    assert found.get_status() in {JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED}
    assert found.timeout == 180


@pytest.mark.parametrize("way", ["enqueue", "delay", "enqueue_in", "enqueue_many", "unique"])
def test_reply_lost__is_one_job(queues: Queues, lossy: LossyProxy, way: str) -> None:
    queue = queue_of(queues)
    lossy.lose_replies(1)
    WAYS[way](queue)
    assert lossy.lost == 1
    assert run_all(queues) == ["x"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_reply_lost_to_what_rq_itself_writes__raises_and_is_one_job(
    queues: Queues, lossy: LossyProxy, elsewhere: bool, settings: Any
) -> None:
    """Dependencies. `elsewhere`: with a connection to another place than that of RQ_QUEUES."""
    parts = urlsplit(lossy.url)
    repeating = redis.Redis(host=parts.hostname, port=parts.port)  # ten times, by redis-py's default
    if elsewhere:
        settings.RQ_QUEUES = recipes.rq_queues(settings.SCALING_KIT_REDIS_URL, queues=queues.names)
    queue = queue_of(queues, connection=repeating)
    first = queue.enqueue(tasks.plain, "first", "x")
    queues.work()
    lossy.lose_replies(1, of=b"RPUSH")
    with pytest.raises(redis.ConnectionError):
        queue.enqueue(tasks.plain, "ran", "x", depends_on=first)
    assert lossy.lost == 1
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1


def test_stock_worker__takes_them_and_retries(queues: Queues) -> None:
    job = queue_of(queues).enqueue(tasks.plain_failing, retry=rq.Retry(max=1))
    queue_of(queues).enqueue(tasks.plain, "ran", "x")
    queue = queue_of(queues)
    worker = rq.SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer)
    worker.work(burst=True, logging_level="ERROR")
    assert tasks.noted("ran") == ["x"]
    assert (job.get_status(), len(job.results())) == (JobStatus.FAILED, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("committed", [True, False])
def test_group_in_a_transaction__waits_for_the_commit(queues: Queues, committed: bool) -> None:
    queue = queue_of(queues)
    group = Group(connection=queue.connection)
    with contextlib.suppress(RuntimeError), transaction.atomic():
        group.enqueue_many(queue, [queue.prepare_data(tasks.plain, args=("ran", "x"))])
        assert group.get_jobs() == []
        if not committed:
            raise RuntimeError
    assert run_all(queues) == ["x"] * committed


@override_settings(RQ_QUEUES={"stock": {"URL": "redis://127.0.0.1:1/0"}, "typo": {"QUEUE_CLASS": "no.such.Queue"}})
@pytest.mark.parametrize(("mode", "expected"), [("on_db_commit", 2), ("auto", 0)])
def test_queue_of_django_rqs_own_class__is_warned_of(mode: str, expected: int) -> None:
    with override_settings(RQ={"COMMIT_MODE": mode}):
        found = run_checks(include_deployment_checks=True)
    assert [message.id for message in found].count("scaling_kit_jobs.W008") == expected
