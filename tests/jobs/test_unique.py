"""One waiting or running job per key."""

import os
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from scaling_kit.jobs import queues as places
from scaling_kit.jobs.enqueuing import UNIQUE_FIELD
from scaling_kit.jobs.tasks import TaskResultStatus, task_enqueued
from tests.jobs import tasks
from tests.jobs.conftest import Queues
from tests.jobs.lossy import LossyProxy

HOUR = timedelta(hours=1)


def once(queues: Queues, **options: Any):
    return tasks.append_once.using(queue_name=queues.default, **options)


def lock_of(queues: Queues, job_id: str) -> str:
    found = places.connection(queues.default).hget(places.job_key(job_id), UNIQUE_FIELD)
    assert found is not None
    return found.decode()


def set_status(queues: Queues, job_id: str, status: str) -> None:
    places.connection(queues.default).hset(places.job_key(job_id), "status", status)


def test_duplicate__returns_the_one_that_waits_and_is_not_announced(queues: Queues) -> None:
    told: list[str] = []
    task_enqueued.connect(lambda task_result, **_: told.append(task_result.id), dispatch_uid="test", weak=False)
    try:
        first, second = once(queues).enqueue("ran", 1), once(queues).enqueue("ran", value=1)
        third, fourth = once(queues).enqueue("ran", value=1), once(queues).enqueue("ran", 1)
    finally:
        task_enqueued.disconnect(dispatch_uid="test")
    assert (third.id, fourth.id) == (second.id, first.id)
    assert told == [first.id, second.id]
    assert third.enqueued_at is not None
    queues.work()
    assert tasks.noted("ran") == ["1", "1"]


def test_same_arguments_on_another_queue__is_a_duplicate(queues: Queues) -> None:
    first = once(queues).enqueue("ran", {"b": 1, "a": 2})
    assert tasks.append_once.using(queue_name=queues.low).enqueue("ran", {"a": 2, "b": 1}).id == first.id


def test_other_arguments_or_another_task__is_no_duplicate(queues: Queues) -> None:
    others = [once(queues).enqueue("ran", value) for value in (1, "1", None, [1])]
    others.append(tasks.append.using(queue_name=queues.default, unique=True).enqueue("ran", 1))
    assert len({result.id for result in others}) == 5


def test_key__is_shared_by_all_that_name_it(queues: Queues) -> None:
    first = once(queues, unique="report").enqueue("ran", 1)
    second = tasks.append.using(queue_name=queues.low, unique="report").enqueue("ran", 2)
    assert (second.id, second.task.name, second.args) == (first.id, "append_once", ["ran", 1])
    assert once(queues, unique="other").enqueue("ran", 1).id != first.id


def test_running__still_holds_it(queues: Queues) -> None:
    first = once(queues).enqueue("ran")
    set_status(queues, first.id, "started")
    assert once(queues).enqueue("ran").status == TaskResultStatus.RUNNING


def test_scheduled__holds_it_too_and_longer(queues: Queues) -> None:
    first = once(queues, run_after=HOUR).enqueue("ran")
    assert once(queues).enqueue("ran").id == first.id
    ttl = places.connection(queues.default).ttl(lock_of(queues, first.id))
    assert ttl == pytest.approx(30 * 86400 + 3600, abs=5)


@pytest.mark.parametrize("name", ["append_once", "fail"])
def test_ended__has_released_its_lock(queues: Queues, name: str) -> None:
    result = getattr(tasks, name).using(queue_name=queues.default, unique=True, retry=0).enqueue("ran")
    lock = lock_of(queues, result.id)
    queues.work()
    assert not places.connection(queues.default).exists(lock)


def test_finished__may_be_enqueued_again(queues: Queues) -> None:
    first = once(queues).enqueue("ran")
    queues.work()
    assert once(queues).enqueue("ran").id != first.id
    queues.work()
    assert tasks.noted("ran") == ["None", "None"]


@pytest.mark.parametrize("end", ["finished", "failed", "canceled", "stopped", "gone"])
def test_lock_that_was_not_released__is_void_when_its_job_has_ended(queues: Queues, end: str) -> None:
    first = once(queues).enqueue("ran")
    if end == "gone":
        places.connection(queues.default).delete(places.job_key(first.id))
    else:
        set_status(queues, first.id, end)
    second = once(queues).enqueue("ran")
    assert second.id != first.id
    assert once(queues).enqueue("ran").id == second.id


def test_many_at_once__one_is_enqueued(queues: Queues) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def enqueue() -> None:
        start.wait()
        found.append(once(queues).enqueue("ran").id)

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    queues.work()
    assert tasks.noted("ran") == ["None"]


ENQUEUE_FIFTY = """
import django
django.setup()
from tests.jobs import tasks
task = tasks.append_once.using(queue_name={queue!r})
print(*{{task.enqueue("ran").id for _ in range(50)}})
"""


def test_several_processes_at_once__one_is_enqueued(queues: Queues) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.jobs.settings",
        "TEST_KEY_PREFIX": settings.SCALING_KIT_KEY_PREFIX,
    }
    command = [sys.executable, "-c", ENQUEUE_FIFTY.format(queue=queues.default)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [len(ids) for ids in found] == [1, 1, 1]
    assert len({ids[0] for ids in found}) == 1
    queues.work()
    assert tasks.noted("ran") == ["None"]


def test_duplicates_among_many__are_one_job(queues: Queues) -> None:
    results = once(queues).enqueue_many([(("ran", value), {}) for value in (1, 2, 1)])
    assert results[2].id == results[0].id != results[1].id
    queues.work()
    assert tasks.noted("ran") == ["1", "2"]


@pytest.mark.parametrize("there_before", [False, True])
def test_reply_lost__is_answered_the_same_again(queues: Queues, lossy: LossyProxy, there_before: bool) -> None:
    expected = {once(queues).enqueue("ran").id} if there_before else set()
    lossy.lose_replies(2)
    expected.add(once(queues).enqueue("ran").id)
    assert lossy.lost == 2
    assert len(expected) == 1
    queues.work()
    assert tasks.noted("ran") == ["None"]


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction__is_that_ones_once_it_has_committed(queues: Queues) -> None:
    first = once(queues).enqueue("ran")
    with transaction.atomic():
        second = once(queues).enqueue("ran")
    assert second.id == first.id


def test_lock__has_the_prefix_of_the_application(queues: Queues) -> None:
    lock = lock_of(queues, once(queues).enqueue("ran").id)
    assert lock.startswith(f"{settings.SCALING_KIT_KEY_PREFIX}:{{jobs}}:unique:")
