"""The aids for a project's own tests."""

import signal
from datetime import timedelta

import django_rq
import pytest
from django.db import connection, transaction
from django.test import override_settings

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.tasks import InvalidTask, TaskResultStatus, task, task_backends
from scaling_kit.jobs.testing import captured_jobs, run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import Queues


def backend(name: str):
    return override_settings(TASKS={"default": {"BACKEND": f"scaling_kit.jobs.testing.{name}"}})


# --- backends


OPTIONS = {"retry": 3, "timeout": 60, "ttl": 60, "unique": True, "result_ttl": 0, "on_commit": False}


def written_with_everything():
    return task(**OPTIONS, priority="high")(tasks.plain)


def test_immediate__runs_where_it_is_enqueued() -> None:
    with backend("ImmediateBackend"):
        result = written_with_everything().using(run_after=timedelta(hours=1)).enqueue("ran", "x")
        results = written_with_everything().enqueue_many([(("ran", "y"), {})])
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, "x")
    assert results[0].return_value == "y"
    assert tasks.noted("ran") == ["x", "y"]


def test_dummy__keeps_what_was_enqueued() -> None:
    with backend("DummyBackend"):
        assert written_with_everything().priority == 50
        tasks.append.using(**OPTIONS, priority="high").enqueue("ran", "x")
        assert [result.args for result in task_backends["default"].results] == [["ran", "x"]]
    assert tasks.noted("ran") == []


@pytest.mark.parametrize("name", ["ImmediateBackend", "DummyBackend"])
def test_wrong_option__is_refused_in_tests_too(name: str) -> None:
    with backend(name), pytest.raises(InvalidTask, match="ttl must be"):
        task(ttl=0)(tasks.plain)


# --- run_jobs


def test_run_jobs__runs_tasks_and_plain_jobs_of_all_queues(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.low).enqueue("ran", "task")
    django_rq.get_queue(queues.high).enqueue(tasks.plain, "ran", "plain")
    handler = signal.getsignal(signal.SIGTERM)
    run_jobs()
    assert tasks.noted("ran") == ["plain", "task"]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_run_jobs__of_the_queues_named_only(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.low).enqueue("ran", "low")
    tasks.append.using(queue_name=queues.high).enqueue("ran", "high")
    run_jobs([queues.high])
    assert tasks.noted("ran") == ["high"]


def test_run_jobs__leaves_what_is_not_due_unless_asked(queues: Queues) -> None:
    delayed = tasks.append.using(queue_name=queues.default, run_after=timedelta(hours=1))
    delayed.enqueue("ran", "normal")
    delayed.using(priority="high").enqueue("ran", "high")
    run_jobs()
    assert tasks.noted("ran") == []
    run_jobs(scheduled=True)
    assert tasks.noted("ran") == ["high", "normal"]


def test_run_jobs__runs_retries_to_their_end(queues: Queues) -> None:
    result = tasks.fail.using(queue_name=queues.default, retry=[60, 60]).enqueue("no")
    run_jobs(scheduled=True)
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 3)


# --- captured_jobs


def test_captured__is_what_was_enqueued_in_the_block(queues: Queues) -> None:
    append = tasks.append.using(queue_name=queues.default)
    append.enqueue("before")
    with captured_jobs() as jobs:
        append.enqueue("within")
    append.enqueue("after")
    assert [job.args for job in jobs] == [["within"]]


@pytest.mark.usefixtures("transaction_of_a_test_case")
def test_captured_in_a_test_case__is_what_waits_for_its_commit(queues: Queues) -> None:
    append = tasks.append.using(queue_name=queues.default)
    append.enqueue("before")
    with captured_jobs() as jobs:
        append.enqueue_many([(("first",), {}), (("second",), {})])
        with pytest.raises(RuntimeError), transaction.atomic():
            append.enqueue("rolled back")
            raise RuntimeError
    assert [job.args for job in jobs] == [["first"], ["second"]]
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 0


@pytest.mark.usefixtures("transaction_of_a_test_case")
def test_captured_and_executed__can_be_run_in_the_open_transaction(queues: Queues) -> None:
    with captured_jobs(execute=True) as jobs:
        result = tasks.append.using(queue_name=queues.default).enqueue("ran", "x")
    run_jobs()
    assert [job.id for job in jobs] == [result.id]
    assert tasks.noted("ran") == ["x"]
    assert connection.in_atomic_block
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.fixture
def transaction_of_a_test_case(db: None) -> None:
    """pytest-django's `db` is the transaction of Django's TestCase."""
    assert connection.in_atomic_block
