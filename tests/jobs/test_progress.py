"""What a job says of itself while it runs, and who hears of it."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing
from itertools import islice
from queue import SimpleQueue
from typing import Any

import pytest
import rq.job
from django.test import override_settings

from scaling_kit import embedded
from scaling_kit.jobs import events, progress
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.events import Event, afollow, follow, listen
from scaling_kit.jobs.job import Job
from scaling_kit.jobs.progress import JobLogHandler, fetch_log, fetch_progress, log, report_progress
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import running, wait_until
from tests.jobs import tasks
from tests.jobs.conftest import Queues


@pytest.fixture
def job(queues: Queues) -> Iterator[Job]:
    """A job that runs here."""
    made = Job("the-job", connection=places.connection(queues.default))
    made.origin = queues.default
    token = rq.job._current_job.set(made)
    yield made
    rq.job._current_job.reset(token)


# --- the job's side


@pytest.mark.parametrize("forks", [False, True])
def test_task__reports_and_logs(queues: Queues, forks: bool) -> None:
    result = tasks.report.using(queue_name=queues.default).enqueue(3)
    queues.work(mode="fork" if forks else "simple")
    found = fetch_progress(result.id)
    assert found is not None
    assert (found.done, found.total, found.message, found.percent) == (3, 3, "at 3", 100.0)
    assert [line.message for line in fetch_log(result.id)] == ["step 1", "step 2", "step 3"]


def test_plain_rq_job__reports_and_logs(queues: Queues) -> None:
    import django_rq

    job = django_rq.get_queue(queues.default).enqueue(tasks.report_plainly)
    queues.work()
    found = fetch_progress(job.id)
    assert found is not None
    assert found.percent == 50.0
    assert [line.message for line in fetch_log(job.id)] == ["plain"]


def test_outside_of_a_job__is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no job runs here"):
        report_progress(1)
    with pytest.raises(RuntimeError, match="no job runs here"):
        log("x")


@pytest.mark.parametrize("number", ["1", float("nan"), float("inf")])
def test_what_is_no_number__is_an_error(job: Job, number: Any) -> None:
    with pytest.raises(TypeError, match="are numbers"):
        report_progress(number)


def test_total_unknown__has_no_percentage(job: Job) -> None:
    report_progress(7)
    found = fetch_progress(job.id)
    assert found is not None
    assert (found.done, found.total, found.message, found.percent) == (7, None, "", None)


def test_record_and_log__expire(job: Job) -> None:
    report_progress(1)
    log("x")
    for key in (places.record_key(job.id), places.log_key(job.id)):
        assert 0 < client(Purpose.SCRIPT).ttl(key) <= 30 * 86400


def test_log__is_read_on_from_the_last_line_seen(job: Job) -> None:
    for number in range(3):
        log(number)
    first = fetch_log(job.id)[0]
    assert [line.message for line in fetch_log(job.id, after=first.entry)] == ["1", "2"]
    assert [line.message for line in fetch_log(job.id, limit=1)] == ["0"]


def test_log__keeps_the_last_lines_and_the_beginning_of_long_ones(job: Job) -> None:
    log("ü\ud800" + "x" * 10_000)
    assert fetch_log(job.id)[0].message == "ü?" + "x" * (progress.MESSAGE_CHARACTERS - 2)
    for number in range(1, 2000):
        log(number)
    kept = fetch_log(job.id, limit=5000)
    assert kept[-1].message == "1999"
    assert 1000 <= len(kept) < 1200


@pytest.fixture
def redis_away() -> Iterator[None]:
    with override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{embedded.free_port()}/0"):
        yield


def test_redis_away__is_said_once_and_fails_nothing(
    job: Job, redis_away: None, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        report_progress(number)
        log(number)
    assert caplog.text.count("redis_reachable=False") == 1


# --- logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("tests.jobs.of_a_job")
    handler = JobLogHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    found.addHandler(handler)
    found.setLevel(logging.INFO)
    yield found
    found.removeHandler(handler)


def test_records_of_a_job__are_in_its_log(job: Job, logger: logging.Logger) -> None:
    logger.info("resized %s", 3)
    logger.debug("not this")
    assert [line.message for line in fetch_log(job.id)] == ["INFO resized 3"]


def test_records_without_a_job__go_nowhere(logger: logging.Logger) -> None:
    logger.info("nobody's")


def test_handler_on_every_logger_and_redis_away__does_not_log_of_its_own_logging(
    job: Job, redis_away: None, caplog: pytest.LogCaptureFixture
) -> None:
    handler = JobLogHandler()
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("tests").warning("x")
    finally:
        logging.getLogger().removeHandler(handler)
    assert caplog.text.count("redis_reachable=False") <= 1


# --- those who listen


def heard(events_of: Iterator[Event]) -> "SimpleQueue[Event | None]":
    """What a follower hears, in a thread of its own; None when it has ended."""
    found: SimpleQueue[Event | None] = SimpleQueue()

    def collect() -> None:
        for event in events_of:
            found.put(event)
        found.put(None)

    threading.Thread(target=collect, daemon=True).start()
    return found


def all_of(found: "SimpleQueue[Event | None]") -> list[Event]:
    events: list[Event] = []
    while (event := found.get(timeout=10)) is not None:
        events.append(event)
    return events


def listening(*job_id: str, until: int) -> "SimpleQueue[Event | None]":
    """What a listener hears, up to so many events; once it listens."""
    before = client(Purpose.SCRIPT).pubsub_numpat()
    found = heard(islice(listen(*job_id), until))
    wait_until(lambda: client(Purpose.SCRIPT).pubsub_numpat() > before)
    return found


def test_follower__sees_the_state_what_happens_and_the_end(queues: Queues) -> None:
    result = tasks.report.using(queue_name=queues.default).enqueue(2)
    found = heard(follow(result.id))
    first = found.get(timeout=10)
    assert first is not None
    assert (first["event"], first["status"], first["progress"]) == ("state", "queued", None)
    queues.work()
    told = all_of(found)
    kinds = [event["event"] for event in told]
    assert kinds == ["started", "log", "progress", "log", "progress", "succeeded", "state"]
    reported = [event for event in told if event["event"] == "progress"]
    assert [(event["done"], event["total"], event["message"]) for event in reported] == [(1, 2, "at 1"), (2, 2, "at 2")]
    assert [event["message"] for event in told if event["event"] == "log"] == ["step 1", "step 2"]
    assert all(event["id"] == result.id and event["queue"] == queues.default for event in reported)
    assert told[-1]["status"] == "finished"
    assert told[-1]["progress"]["done"] == 2


def test_follower_of_a_job_that_is_removed_when_done__sees_its_success(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default, result_ttl=0).enqueue("x")
    found = heard(follow(result.id))
    found.get(timeout=10)
    queues.work()
    assert [(event["event"], event.get("status")) for event in all_of(found)][-2:] == [
        ("succeeded", None),
        ("state", None),
    ]


def test_follower_of_a_job_that_has_ended__sees_that_and_ends(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("x")
    queues.work()
    assert [event["status"] for event in follow(result.id)] == ["finished"]
    assert [event["status"] for event in follow("no-such-job")] == [None]


def test_follower_that_was_told_nothing__looks_by_itself(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("x")
    found = heard(follow(result.id, look_seconds=0.05))
    assert found.get(timeout=10)["status"] == "queued"  # type: ignore[index]
    places.connection(queues.default).hset(places.job_key(result.id), "status", "failed")
    assert [event["status"] for event in all_of(found)] == ["failed"]


def test_follower_told_of_a_failure_of_a_job_that_waits_again__goes_on(queues: Queues) -> None:
    result = tasks.append.using(queue_name=queues.default).enqueue("x")
    redis = places.connection(queues.default)
    found = heard(follow(result.id))
    found.get(timeout=10)
    for name in ("failed", "log"):
        redis.publish(places.event_channel(result.id), json.dumps({"event": name, "id": result.id}))
    assert [found.get(timeout=10)["event"] for _ in range(2)] == ["failed", "log"]  # type: ignore[index]
    redis.hset(places.job_key(result.id), "status", "finished")
    redis.publish(places.event_channel(result.id), json.dumps({"event": "succeeded", "id": result.id}))
    assert [event["event"] for event in all_of(found)] == ["succeeded", "state"]


def test_listener__hears_of_every_job_enqueued_and_scheduled(queues: Queues) -> None:
    from datetime import timedelta

    found = listening(until=2)
    append = tasks.append.using(queue_name=queues.default)
    first = append.enqueue("x")
    second = append.using(run_after=timedelta(hours=1)).enqueue("x")
    events = [found.get(timeout=10), found.get(timeout=10)]
    assert [(event["event"], event["id"], event["queue"]) for event in events if event] == [
        ("enqueued", first.id, queues.default),
        ("scheduled", second.id, queues.default),
    ]
    assert events[1] is not None
    assert events[1]["run_at"] == pytest.approx(second.task.run_after.timestamp(), abs=0.01)  # type: ignore[union-attr]


def test_listener_to_one_job__hears_of_no_other(queues: Queues) -> None:
    append = tasks.append.using(queue_name=queues.default)
    found = listening("the-job", until=1)
    append.enqueue("x")
    places.connection(queues.default).publish(
        places.event_channel("the-job"), json.dumps({"event": "started", "id": "the-job"})
    )
    assert all_of(found) == [{"event": "started", "id": "the-job"}]


def test_listener_that_stops__leaves_no_subscription(queues: Queues) -> None:
    before = client(Purpose.SCRIPT).pubsub_numpat()
    with closing(follow(tasks.append.using(queue_name=queues.default).enqueue("x").id)) as following:
        next(following)
    wait_until(lambda: client(Purpose.SCRIPT).pubsub_numpat() <= before)


def test_asynchronous_follower__sees_the_same(queues: Queues) -> None:
    result = tasks.report.using(queue_name=queues.default).enqueue(1)

    async def collect() -> list[Event]:
        told = []
        async with aclosing(afollow(result.id, look_seconds=0.2)) as following:
            async for event in following:
                told.append(event)
                if len(told) == 1:
                    threading.Thread(target=act, daemon=True).start()
        return told

    def act() -> None:
        redis = places.connection(queues.default)
        redis.publish(places.event_channel(result.id), json.dumps({"event": "progress", "id": result.id}))
        redis.hset(places.job_key(result.id), "status", "finished")

    told = asyncio.run(asyncio.wait_for(collect(), 10))
    assert [event["event"] for event in told] == ["state", "progress", "state"]
    assert told[-1]["status"] == "finished"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_redis_restarted_under_a_follower__it_sees_the_end_that_nobody_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    server = embedded.Valkey(folder=tmp_path, port=embedded.free_port())
    monkeypatch.setattr(places, "RETRY_SECONDS", 0.05)
    with override_settings(SCALING_KIT_REDIS_URL=server.url):
        with running(server):
            client(Purpose.SCRIPT).hset(places.job_key("j"), "status", "started")
            found = heard(_in_a_loop("j") if asynchronous else follow("j"))
            assert found.get(timeout=10)["status"] == "started"  # type: ignore[index]
            client(Purpose.SCRIPT).hset(places.job_key("j"), "status", "finished")
        with running(server):
            assert [event["status"] for event in all_of(found)][-1] == "finished"


def _in_a_loop(job_id: str) -> Iterator[Event]:
    told: SimpleQueue[Event | None] = SimpleQueue()

    async def collect() -> None:
        async for event in events.afollow(job_id):
            told.put(event)
        told.put(None)

    threading.Thread(target=lambda: asyncio.run(collect()), daemon=True).start()
    while (event := told.get(timeout=20)) is not None:
        yield event
