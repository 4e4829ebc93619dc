import asyncio
import re
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from scaling_kit.jobs import checks, transitions
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.checks import check_extra, check_limits, check_queues
from scaling_kit.jobs.conf import JobsSettings
from scaling_kit.jobs.enqueuing import enqueue
from scaling_kit.jobs.tasks import (
    InvalidTask,
    Retry,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_enqueued,
    task_finished,
    task_started,
)
from scaling_kit.jobs.upkeep import move_due_jobs
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues


@pytest.mark.parametrize("mode", ["fork", "simple", "threads"])
def test_enqueued__runs_and_returns(queues: Queues, mode: str) -> None:
    result = tasks.add.using(queue_name=queues.default).enqueue(1, b=2)
    assert result.status == TaskResultStatus.READY
    queues.work(mode=mode)
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 1)
    assert result.started_at is not None
    assert result.finished_at is not None


def test_async_task_and_aenqueue__run(queues: Queues) -> None:
    result = asyncio.run(tasks.add_async.using(queue_name=queues.default).aenqueue(1, 2))
    queues.work()
    assert asyncio.run(tasks.add_async.aget_result(result.id)).return_value == 3


def test_unknown_result__does_not_exist(queues: Queues) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("nothing")


def test_raised_until_the_third_attempt__succeeds_with_its_errors_kept(queues: Queues) -> None:
    result = tasks.third_time_lucky.using(queue_name=queues.default).enqueue()
    work_off_retries(queues)
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 3)
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert "attempt 2" in result.errors[1].traceback


def test_raised_every_time__fails_with_every_error(queues: Queues) -> None:
    result = tasks.fail.using(queue_name=queues.default).enqueue("no")
    work_off_retries(queues)
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert len(result.errors) == 2
    assert places.connection(queues.default).zcard(places.failed_key(queues.default)) == 1


def test_return_value_not_json__fails(queues: Queues) -> None:
    result = tasks.return_a_set.using(queue_name=queues.default).enqueue()
    queues.work()
    result.refresh()
    assert result.errors[0].exception_class is TypeError


def test_timeout__ends_the_task(queues: Queues) -> None:
    result = tasks.sleep_too_long.using(queue_name=queues.default).enqueue()
    queues.work()
    result.refresh()
    assert "exceeded maximum timeout value (1 seconds)" in result.errors[0].traceback


def test_arguments_not_json__refused(queues: Queues) -> None:
    with pytest.raises(TypeError):
        tasks.append.using(queue_name=queues.default).enqueue("x", object())


def test_priorities__highest_first_then_queue_by_queue(queues: Queues) -> None:
    for value, queue_name, priority in [
        ("low", queues.low, 0),
        ("normal", queues.default, 0),
        ("-5", queues.default, -5),
        ("50", queues.default, 50),
        ("10", queues.default, 10),
        ("50 again", queues.default, 50),
        ("high", queues.high, 0),
    ]:
        tasks.append.using(queue_name=queue_name, priority=priority).enqueue("order", value)
    queues.work()
    assert tasks.noted("order") == ["high", "50", "50 again", "10", "normal", "-5", "low"]


def test_run_after__waits_for_the_mover(queues: Queues) -> None:
    delayed = tasks.append.using(queue_name=queues.default, run_after=timezone.now() + timedelta(seconds=0.3))
    result = delayed.enqueue("delayed")
    queues.work()
    assert tasks.noted("delayed") == []
    lease = held_lease()
    wait_until(
        lambda: move_due_jobs(lease) and places.connection(queues.default).llen(places.queue_key(queues.default))
    )
    queues.work()
    assert tasks.noted("delayed") == ["None"]
    result.refresh()
    assert result.task.run_after == delayed.run_after


def test_run_after_as_timedelta__is_from_now() -> None:
    assert tasks.append.using(run_after=timedelta(hours=1)).run_after > timezone.now()  # type: ignore[arg-type]


def test_mover_without_the_lease__moves_nothing(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.default, run_after=timezone.now() + timedelta(seconds=0.01)).enqueue("x")
    held_lease()
    late = Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT))
    wait_until(lambda: transitions.move_due(queues.default, late)[0] == 0)
    assert places.connection(queues.default).zcard(places.scheduled_key(queues.default)) == 1


@pytest.mark.django_db(transaction=True)
def test_rolled_back__enqueues_nothing(queues: Queues) -> None:
    append = tasks.append.using(queue_name=queues.default)
    with pytest.raises(RuntimeError), transaction.atomic():
        append.enqueue("tx", "rolled back")
        tasks.append_at_once.using(queue_name=queues.default).enqueue("tx")
        raise RuntimeError
    with transaction.atomic():
        append.enqueue("tx", "committed")
        assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1
    queues.work()
    assert tasks.noted("tx") == ["at once", "committed"]


def test_enqueued_twice_with_one_id__is_one_job(queues: Queues) -> None:
    """What a repetition after a lost reply does."""
    task_of_queue = tasks.append.using(queue_name=queues.default)
    job = task_of_queue.get_backend().prepare(task_of_queue, ["once"], {}, job_id="same-" + queues.default)
    assert [enqueue(queues.default, job), enqueue(queues.default, job)] == [job.id, job.id]
    queues.work()
    assert tasks.noted("once") == ["None"]


def test_signals__enqueued_started_finished(queues: Queues) -> None:
    seen: list[tuple[str, str]] = []

    def record(name: str):
        return lambda sender, task_result, **_: seen.append((name, task_result.status))

    for signal in (task_enqueued, task_started, task_finished):
        receiver = record({task_enqueued: "enqueued", task_started: "started", task_finished: "finished"}[signal])
        signal.connect(receiver, dispatch_uid="test", weak=False)
    try:
        tasks.fail.using(queue_name=queues.default).enqueue("no")
        work_off_retries(queues)
    finally:
        for signal in (task_enqueued, task_started, task_finished):
            signal.disconnect(dispatch_uid="test")
    assert seen == [("enqueued", "READY"), ("started", "RUNNING"), ("started", "RUNNING"), ("finished", "FAILED")]


def test_many_enqueuing_at_once__each_job_once(queues: Queues) -> None:
    append = tasks.append.using(queue_name=queues.default)
    threads = [threading.Thread(target=append.enqueue, args=("many", number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queues.work()
    assert sorted(tasks.noted("many")) == [str(number) for number in range(8)]


def test_wrong_options__refused_where_the_task_is_written() -> None:
    with pytest.raises(InvalidTask, match="retry must be"):
        task(retry="often")(tasks.plain)
    with pytest.raises(InvalidTask, match="timeout must be"):
        task(timeout=0)(tasks.plain)
    with pytest.raises(TypeError, match="uniqe"):
        task(uniqe=True)(tasks.plain)


def test_retry_delays__exponential_listed_and_jittered() -> None:
    plain = Retry(count=9, first_seconds=2, max_seconds=10, jitter=0)
    assert [plain.delay_seconds(done) for done in range(4)] == [2, 4, 8, 10]
    assert [Retry.of([1, 5]).delay_seconds(done) for done in range(3)] == [1, 5, 5]
    assert 2 <= Retry(first_seconds=2, jitter=0.5).delay_seconds(0) <= 3


@override_settings(TASKS={"default": {"BACKEND": "scaling_kit.jobs.RQBackend", "QUEUES": ["nowhere"]}})
def test_queue_not_in_rq_queues__is_an_error() -> None:
    assert "scaling_kit_jobs.E002" in {message.id for message in run_checks()}


@override_settings(RQ_QUEUES={"a": {"URL": "redis://elsewhere:1/0"}, "b": {"SENTINELS": []}}, TASKS={})
def test_queue_elsewhere_or_nowhere__is_an_error() -> None:
    found = {message.id for message in run_checks(include_deployment_checks=True)}
    assert {"scaling_kit_jobs.E003", "scaling_kit_jobs.E004", "scaling_kit_jobs.W006"} <= found


def work_off_retries(queues: Queues) -> None:
    """Run until no retry is left: in turn what the mover does, and what the worker does."""
    lease = held_lease()
    for _ in range(5):
        queues.work()
        transitions.move_due(queues.default, lease)


def held_lease() -> Lease:
    lease = Lease("scaling_kit_jobs", client=client(Purpose.SCRIPT))
    assert lease.hold()
    return lease


def test_extra_missing__is_an_error_and_nothing_else_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rq", None)
    assert [message.id for message in check_extra()] == ["scaling_kit_jobs.E001"]
    assert check_queues() == []


@override_settings(SCALING_KIT_JOBS_MAX_KILLS=0)
def test_limit_that_cannot_be__is_an_error() -> None:
    assert [message.id for message in check_limits()] == ["scaling_kit_jobs.E005"]


def test_documented_settings_and_checks__are_the_ones_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    for name, default in JobsSettings.defaults().items():
        assert f"| `{name}` | {default} |" in page
    source = Path(checks.__file__).read_text()
    assert set(re.findall(r"\b[EW]\d{3}\b", source)) == set(re.findall(r"scaling_kit_jobs\.([EW]\d{3})", page))
