"""Looking: what is counted and listed, and that it stays readable, cheap and without effect."""

import json
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django_rq import get_queue
from rq import Queue

from scaling_kit import recipes
from scaling_kit.jobs import control, inspection, transitions
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.counts import registry_key
from scaling_kit.jobs.exceptions import NoSuchJobError, NoSuchQueueError
from scaling_kit.jobs.status import snapshot
from tests.jobs import tasks
from tests.jobs.conftest import Queues


def enqueue(queues: Queues, value: object = None, **using: Any) -> str:
    return tasks.append.using(queue_name=queues.default, **using).enqueue("ran", value).id


def ids(page: inspection.Page) -> list[str]:
    return [job.id for job in page.jobs]


def waiting(queues: Queues, **options: Any) -> inspection.Page:
    return inspection.fetch_jobs("waiting", queue_name=queues.default, **options)


def test_counts__of_every_state(queues: Queues) -> None:
    tasks.add.using(queue_name=queues.default).enqueue(1, 2)
    tasks.return_a_set.using(queue_name=queues.default).enqueue()
    queues.work()
    control.cancel(enqueue(queues))
    enqueue(queues, run_after=timedelta(hours=1))
    enqueue(queues)
    enqueue(queues, priority=5)
    enqueue(queues, priority=6)
    transitions.claim(queues.names, "test-w1", "e1")
    control.pause(queues.default)
    [found] = inspection.fetch_counts([queues.default])
    assert (found.waiting, found.scheduled, found.running) == (2, 1, 1)
    assert (found.failed, found.finished, found.canceled, found.paused) == (1, 1, 1, True)
    assert found.oldest_seconds is not None
    assert 0 <= found.oldest_seconds < 10
    assert snapshot()["queues"][queues.default]["waiting"] == 2


def test_unknown_queue__is_said(queues: Queues) -> None:
    with pytest.raises(NoSuchQueueError, match=queues.low):
        inspection.fetch_counts(["nowhere"])


def test_waiting__is_listed_in_the_order_in_which_it_will_run(queues: Queues) -> None:
    plain = [enqueue(queues), enqueue(queues)]
    low, high = enqueue(queues, priority=-3), enqueue(queues, priority=50)
    in_order = [high, *plain, low]
    assert ids(waiting(queues)) == in_order
    assert ids(waiting(queues, newest_first=True)) == in_order[::-1]
    assert [ids(waiting(queues, page=page, per_page=3)) for page in (1, 2, 3)] == [in_order[:3], in_order[3:], []]
    assert ids(waiting(queues, page=2, per_page=3, newest_first=True)) == [high]
    assert waiting(queues, per_page=3).pages == 2


def test_all_queues__are_listed_one_after_the_other(queues: Queues) -> None:
    expected = [tasks.append.using(queue_name=name).enqueue("ran").id for name in queues.names]
    assert ids(inspection.fetch_jobs("waiting", per_page=2)) == expected[:2]
    assert ids(inspection.fetch_jobs("waiting", per_page=2, page=2)) == expected[2:]


def test_scheduled__says_when(queues: Queues) -> None:
    later, soon = enqueue(queues, run_after=timedelta(hours=2)), enqueue(queues, run_after=timedelta(hours=1))
    page = inspection.fetch_jobs("scheduled", queue_name=queues.default)
    assert ids(page) == [soon, later]
    assert page.jobs[0].run_at == inspection.fetch_job(soon).run_at is not None


def test_finished__newest_first(queues: Queues) -> None:
    expected = []
    for number in range(3):
        expected.append(tasks.add.using(queue_name=queues.default).enqueue(number, 1).id)
        queues.work()
    redis = places.connection(queues.default)
    redis.zadd(registry_key("finished", queues.default), {job_id: n + 4e9 for n, job_id in enumerate(expected)})
    assert ids(inspection.fetch_jobs("finished", queue_name=queues.default)) == expected[::-1]


def test_filter_by_task__finds_it_and_says_how_far_it_looked(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(queues)
    wanted = [tasks.add.using(queue_name=queues.default).enqueue(1, number).id for number in range(3)]
    page = waiting(queues, task="tasks.ADD", per_page=2)
    assert (ids(page), page.total, page.searched, page.complete) == (wanted[:2], 3, 4, True)
    assert ids(waiting(queues, task="tasks.add", per_page=2, page=2)) == wanted[2:]
    monkeypatch.setattr("scaling_kit.jobs.listing.SEARCHED", 2)
    page = waiting(queues, task="tasks.add")
    assert (ids(page), page.searched, page.complete) == (wanted[:1], 2, False)


def test_finished_task__with_everything(queues: Queues) -> None:
    job_id = tasks.third_time_lucky.using(queue_name=queues.default, priority=4).enqueue().id
    queues.work()
    redis = places.connection(queues.default)
    redis.hset(places.record_key(job_id), "progress", json.dumps({"done": 3, "total": 9, "message": "x", "at": 1.0}))
    redis.xadd(places.log_key(job_id), {"message": "a line"})
    job = inspection.fetch_job(job_id)
    assert (job.state, job.result, job.priority, job.attempts) == ("finished", 3, 4, 3)
    assert (job.function, job.args, job.kwargs) == ("tests.jobs.tasks.third_time_lucky", [], {})
    assert [attempt.exception for attempt in job.history] == ["builtins.ValueError", "builtins.ValueError", ""]
    assert all(attempt.worker.startswith("test-") for attempt in job.history)
    assert job.progress == {"done": 3, "total": 9, "message": "x", "at": 1.0}
    assert [line.message for line in job.log] == ["a line"]
    assert job.retry is not None
    assert job.kept_seconds is not None
    assert job.actions == ("remove",)
    [listed] = inspection.fetch_jobs("finished", queue_name=queues.default).jobs
    assert (listed.task, listed.progress) == ("tests.jobs.tasks.third_time_lucky", job.progress)


def test_failed__says_why_in_the_list(queues: Queues) -> None:
    tasks.return_a_set.using(queue_name=queues.default).enqueue()
    get_queue(queues.default).enqueue(tasks.plain_failing)
    queues.work()
    found = inspection.fetch_jobs("failed", queue_name=queues.default).jobs
    errors = {job.task: job.error for job in found}
    assert errors["tests.jobs.tasks.plain_failing"] == "ValueError: plain"
    assert "TypeError" in errors["tests.jobs.tasks.return_a_set"]
    plain = inspection.fetch_job(next(job.id for job in found if not job.is_task))
    assert [(attempt.exception, attempt.number) for attempt in plain.history] == [("ValueError", 1)]


def test_plain_job_in_json__shows_arguments_result_and_dependents(queues: Queues) -> None:
    entry = recipes.rq_queues(settings.SCALING_KIT_REDIS_URL, queues=queues.names)
    with override_settings(
        RQ_QUEUES={name: {**config, "SERIALIZER": "rq.serializers.JSONSerializer"} for name, config in entry.items()}
    ):
        queue = get_queue(queues.default)
        first = queue.enqueue(tasks.plain, "plain", value="v")
        second = queue.enqueue(tasks.plain, "plain", "2", depends_on=first)
        job = inspection.fetch_job(first.id)
        assert (job.function, job.args, job.kwargs) == ("tests.jobs.tasks.plain", ["plain"], {"value": "v"})
        assert job.dependents == [second.id]
        assert inspection.fetch_job(second.id).depends_on == [first.id]
        assert ids(inspection.fetch_jobs("deferred", queue_name=queues.default)) == [second.id]
        queues.work()
        assert inspection.fetch_job(first.id).result == "v"


class Explosive:
    """Running code when unpickled, as whoever can write to Redis could arrange."""

    def __reduce__(self) -> Any:
        return tasks.note, ("unpickled", "boom")


def test_pickled__is_not_unpickled(queues: Queues) -> None:
    connection = places.connection(queues.default)
    job = Queue(queues.default, connection=connection).enqueue(tasks.plain, Explosive(), "v")
    found = inspection.fetch_job(job.id)
    assert (found.args, found.arguments_reason) == (None, "pickled, not shown")
    assert inspection.fetch_jobs("waiting", queue_name=queues.default).jobs[0].task == "tests.jobs.tasks.plain"
    assert tasks.noted("unpickled") == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfe not json", "not JSON"),
        (b"", "missing"),
        (pickle.dumps([1]), "pickled"),
        (b"[1, 2]", "not what a job looks like"),
        (b"[" * 100_000, "nested too deeply"),
        (zlib.compress(b" " * 50_000_000), "larger than"),
        (b"x" * 1_000_000, "larger than"),
        (b'["f", null, ["\\ud800", NaN, 1e999], {}]', ""),
    ],
)
def test_bytes_of_any_kind__are_shown_with_a_reason(queues: Queues, data: bytes, reason: str) -> None:
    job_id = enqueue(queues)
    places.connection(queues.default).hset(places.job_key(job_id), "data", data)
    found = inspection.fetch_job(job_id)
    assert reason in found.arguments_reason
    assert bool(found.arguments_reason) == bool(reason)
    json.dumps(found.args, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "field",
    [
        "kit_task",
        "kit_priority",
        "kit_attempts",
        "enqueued_at",
        "status",
        "origin",
        "timeout",
        "dependency_ids",
        "kit_expires_at",
    ],
)
def test_rubbish_in_any_field__is_no_error(queues: Queues, field: str) -> None:
    job_id = enqueue(queues)
    places.connection(queues.default).hset(places.job_key(job_id), field, b"\xff[1e999")
    assert inspection.fetch_job(job_id).id == job_id
    assert ids(waiting(queues)) == [job_id]
    inspection.fetch_counts()


def test_key_that_is_no_job__is_listed_with_a_note(queues: Queues) -> None:
    redis = places.connection(queues.default)
    job_id = f"{queues.default}-text"
    redis.set(places.job_key(job_id), "text", ex=60)
    redis.rpush(places.queue_key(queues.default), job_id)
    assert waiting(queues).jobs[0].note
    assert inspection.fetch_job(job_id).note
    assert inspection.fetch_counts([queues.default])[0].oldest_seconds is None


def test_expired_job_in_a_list__is_left_out(queues: Queues) -> None:
    job_id, other = enqueue(queues), enqueue(queues)
    places.connection(queues.default).delete(places.job_key(job_id))
    assert ids(waiting(queues)) == [other]
    assert inspection.fetch_counts([queues.default])[0].oldest_seconds is not None
    with pytest.raises(NoSuchJobError):
        inspection.fetch_job(job_id)


def test_log__goes_on_after_the_last_line_that_was_seen(queues: Queues) -> None:
    job_id = enqueue(queues)
    redis = places.connection(queues.default)
    for number in range(5):
        redis.xadd(places.log_key(job_id), {"message": f"line {number}"})
    lines = inspection.fetch_log_lines(job_id)
    assert [line.message for line in inspection.fetch_log_lines(job_id, after=lines[2].entry)] == ["line 3", "line 4"]
    assert [line.message for line in inspection.fetch_log_lines(job_id, limit=2)] == ["line 3", "line 4"]
    with pytest.raises(ValueError, match="not the entry"):
        inspection.fetch_log_lines(job_id, after="+")
    with pytest.raises(NoSuchJobError):
        inspection.fetch_log_lines("nothing")


def test_looking_at_an_abandoned_job__leaves_it_where_it_is(queues: Queues) -> None:
    """Asking RQ's registry would fail it, or requeue it once per looker."""
    job_id = enqueue(queues)
    transitions.claim(queues.names, "test-w1", "e1")
    redis = places.connection(queues.default)
    redis.zadd(places.started_key(queues.default), {f"{job_id}:e1": 1})
    inspection.fetch_counts()
    inspection.fetch_job(job_id)
    assert ids(inspection.fetch_jobs("running", queue_name=queues.default)) == [job_id]
    assert redis.zcard(places.started_key(queues.default)) == 1


def test_a_hundred_thousand_jobs__cost_as_many_round_trips_as_one(queues: Queues) -> None:
    with round_trips(queues) as of_few:
        enqueue(queues)
        of_few.clear()
        look(queues)
        few = len(of_few)
    fill(queues.default, 100_000)
    with round_trips(queues) as of_many:
        look(queues)
    assert len(of_many) == few <= 11
    assert inspection.fetch_counts([queues.default])[0].waiting == 100_001
    assert len(waiting(queues, page=4000, per_page=25).jobs) == 25


def look(queues: Queues) -> None:
    snapshot()
    waiting(queues, per_page=25)


@contextmanager
def round_trips(queues: Queues) -> Iterator[list[int]]:
    """Every pipeline, and every command outside of one, of the queues' client."""
    connection: Any = places.connection(queues.default)
    found: list[int] = []
    original = connection.connection_pool.get_connection

    def counted(*args: Any, **kwargs: Any) -> Any:
        found.append(1)
        return original(*args, **kwargs)

    connection.connection_pool.get_connection = counted
    try:
        yield found
    finally:
        del connection.connection_pool.get_connection


def fill(queue_name: str, count: int) -> None:
    """Jobs of one second each, cheaply."""
    connection = places.connection(queue_name)
    for start in range(0, count, 10_000):
        pipeline = connection.pipeline(transaction=False)
        for number in range(start, start + 10_000):
            job_id = f"{queue_name}-{number}"
            pipeline.hset(places.job_key(job_id), mapping={"data": b"[]", "status": "queued", "origin": queue_name})
            pipeline.rpush(places.queue_key(queue_name), job_id)
        pipeline.execute()


def test_page_over_many_priorities_and_queues__costs_no_more(queues: Queues) -> None:
    for name in queues.names:
        for priority in range(10):
            tasks.append.using(queue_name=name, priority=priority).enqueue("ran")
    with round_trips(queues) as found:
        assert len(inspection.fetch_jobs("waiting", per_page=30).jobs) == 30
    assert len(found) <= 6
