"""A plain django-rq project runs unchanged, beside tasks."""

from datetime import timedelta

import django_rq
import pytest
from django.test import override_settings
from rq import Callback, Retry
from rq.job import Job, JobStatus

from scaling_kit.jobs import queues as places
from scaling_kit.jobs import transitions
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.test_queues import held_lease


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_function__runs_and_rq_sees_its_result(queues: Queues, serializer: str, settings) -> None:
    settings.RQ_QUEUES = {name: {**entry, "SERIALIZER": serializer} for name, entry in settings.RQ_QUEUES.items()}
    job = django_rq.get_queue(queues.default, commit_mode="auto").enqueue(
        tasks.plain, "plain", "a", on_success=Callback(tasks.plain_success)
    )
    tasks.append.using(queue_name=queues.default).enqueue("task", "b")
    queues.work()
    assert (tasks.noted("plain"), tasks.noted("callbacks"), tasks.noted("task")) == (["a"], ["a"], ["b"])
    assert job.get_status() == JobStatus.FINISHED
    assert job.return_value() == "a"


def test_dependents__run_after_what_they_depend_on(queues: Queues) -> None:
    queue = django_rq.get_queue(queues.default, commit_mode="auto")
    first = queue.enqueue(tasks.plain, "order", "first")
    queue.enqueue(tasks.plain, "order", "second", depends_on=first)
    queues.work()
    assert tasks.noted("order") == ["first", "second"]


def test_retry__is_rqs_own(queues: Queues) -> None:
    queue = django_rq.get_queue(queues.default, commit_mode="auto")
    job = queue.enqueue(tasks.plain_failing, retry=Retry(max=1))
    queues.work()
    assert job.get_status() == JobStatus.FAILED
    assert len(job.results()) == 1
    assert "ValueError: plain" in job.latest_result().exc_string


def test_enqueue_in__is_moved_when_due(queues: Queues) -> None:
    queue = django_rq.get_queue(queues.default, commit_mode="auto")
    queue.enqueue_in(timedelta(seconds=-1), tasks.plain, "in", "a")
    assert transitions.move_due(queues.default, held_lease())[0] == 1
    queues.work()
    assert tasks.noted("in") == ["a"]


@pytest.mark.parametrize("data", [b"not json", b'["os.system", null, ["true"], {}]', b"[1]"])
def test_malformed_task__fails_and_the_worker_goes_on(queues: Queues, data: bytes) -> None:
    broken = tasks.append.using(queue_name=queues.default).enqueue("x")
    places.connection(queues.default).hset(places.job_key(broken.id), "data", data)
    tasks.append.using(queue_name=queues.default).enqueue("after", "a")
    queues.work()
    assert tasks.noted("after") == ["a"]
    job = Job.fetch(broken.id, connection=places.connection(queues.default))
    assert job.get_status() == JobStatus.FAILED


@override_settings(SCALING_KIT_JOBS_MAX_KILLS=2)
def test_field_that_rq_cannot_read__fails_with_the_reason(queues: Queues) -> None:
    broken = tasks.append.using(queue_name=queues.default).enqueue("x")
    redis = places.connection(queues.default)
    redis.hset(places.job_key(broken.id), "kit_task", "{")
    queues.work()
    assert redis.hget(places.job_key(broken.id), "status") == b"failed"
