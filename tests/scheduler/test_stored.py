import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, connections, transaction

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client, key
from scaling_kit.scheduler import claim, schedule, status, stored
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.rows import Row, UnfitError, understood
from scaling_kit.scheduler.run_now import run_now
from scaling_kit.scheduler.stored import Found, Origin, Table, UnknownScheduleError
from scaling_kit.scheduler.ticker import Ticker
from scaling_kit.scheduler.timetable import Cron, Interval
from scaling_kit.testing import wait_until
from tests.scheduler.queue import PlainTask, Task, finish, waiting
from tests.scheduler.tasks import sweep, tidy

TIDY = "tests.scheduler.tasks.tidy"


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_declared", [])
    monkeypatch.setattr(stored, "_table", Table())
    monkeypatch.setattr(stored, "_complaints", stored.Complaints())
    schedule.add("sweep", Task(), "30 2 * * *", tz="Europe/Paris", kwargs={"deep": True}, grace_seconds=60.0)
    schedule.add("poll", Task(), seconds=30, enabled=False)


def store(name: str, **fields: Any) -> StoredSchedule:
    return StoredSchedule.objects.create(name=name, **fields)


def found(name: str) -> Found:
    return next(one for one in stored.survey() if one.name == name)


# --- what the table makes of the declared ones


@pytest.mark.django_db
def test_blank_row__leaves_all_as_declared() -> None:
    before = stored.survey()
    stored.sync()
    assert StoredSchedule.objects.count() == 2
    assert stored.survey() == before
    assert {one.origin for one in before} == {Origin.DECLARED}


@pytest.mark.django_db
def test_sync__again_changes_nothing() -> None:
    store("sweep", note="kept")
    stored.sync()
    stored.sync()
    assert list(StoredSchedule.objects.values_list("name", "note")) == [("poll", ""), ("sweep", "kept")]


@pytest.mark.django_db
def test_changed__what_is_blank_stays_as_declared() -> None:
    store("sweep", expression="0 4 * * *", overlap="allow")
    one = stored.find("sweep")
    assert one.timetable == Cron(expression="0 4 * * *", tz="Europe/Paris")
    assert (one.overlap, one.kwargs, one.grace_seconds, one.enabled) == ("allow", {"deep": True}, 60.0, True)
    assert found("sweep").origin is Origin.CHANGED


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "enabled"), [("sweep", False), ("poll", True)])
def test_enabled_and_disabled__against_the_declaration(name: str, enabled: bool) -> None:
    store(name, enabled=enabled)
    assert stored.find(name).enabled is enabled


@pytest.mark.django_db
def test_changed__from_expression_to_seconds_and_back() -> None:
    store("sweep", seconds=10)
    store("poll", expression="@daily")
    assert stored.find("sweep").timetable == Interval(seconds=10)
    assert stored.find("poll").timetable == Cron(expression="@daily")


@pytest.mark.django_db
def test_changed__only_the_time_zone() -> None:
    store("sweep", tz="Asia/Tokyo")
    assert stored.find("sweep").timetable == Cron(expression="30 2 * * *", tz="Asia/Tokyo")


@pytest.mark.django_db
def test_changed__empty_arguments_are_not_blank() -> None:
    store("sweep", kwargs={})
    assert stored.find("sweep").kwargs == {}


@pytest.mark.django_db
def test_declaration_gone__is_found_and_does_not_run() -> None:
    store("formerly")
    assert found("formerly") == Found(
        name="formerly", origin=Origin.GONE, schedule=None, reason="its declaration is gone from the code"
    )


# --- schedules of their own


@pytest.mark.django_db
def test_stored__runs_as_a_declared_one_would() -> None:
    store("report", task="tests.scheduler.tasks.sweep", expression="@daily", args=[3], catch_up="all")
    schedule.add("by-code", sweep, "@daily", args=[3], catch_up="all")
    one, other = stored.find("report"), stored.find("by-code")
    assert (one.task, one.timetable, one.args, one.kwargs, one.overlap) == (
        other.task,
        other.timetable,
        other.args,
        other.kwargs,
        other.overlap,
    )


UNFIT = [
    ({}, "expression", "give an expression or seconds"),
    ({"expression": "@daily", "seconds": 5}, "seconds", "not both"),
    ({"expression": "61 * * * *"}, "expression", "minute: '61' is not allowed"),
    ({"expression": "@daily", "tz": "Mars/Olympus"}, "tz", "not a time zone"),
    ({"seconds": 0}, "seconds", "must be a whole number"),
    ({"seconds": 1, "catch_up": "some"}, "catch_up", "is none of skip, latest, all"),
    ({"seconds": 1, "grace_seconds": -1.0}, "grace_seconds", "is not above 0"),
    ({"seconds": 1, "jitter_seconds": 1e9}, "jitter_seconds", "more than a week"),
    ({"seconds": 1, "args": {"a": 1}}, "args", "is not a list"),
    ({"seconds": 1, "kwargs": [1]}, "kwargs", "is not an object"),
    ({"seconds": 1, "args": [1, 2]}, "args", "too many positional arguments"),
    ({"seconds": 1, "kwargs": {"too": "all"}}, "kwargs", "unexpected keyword argument 'too'"),
    ({"seconds": 1, "task": "os.system"}, "task", "in no installed app"),
    ({"seconds": 1, "task": "tests.scheduler.tasks.absent"}, "task", "cannot be imported"),
    ({"seconds": 1, "task": "tests.scheduler.absent.tidy"}, "task", "cannot be imported"),
    ({"seconds": 1, "task": "tests.scheduler.queue"}, "task", "is no task"),
    ({"seconds": 1, "task": "tests.scheduler.queue.Task"}, "task", "is no task"),
    ({"seconds": 1, "task": "tests.scheduler.tasks.no_task"}, "task", "is no task"),
    ({"seconds": 1, "task": "tests.scheduler.queue.waiting"}, "task", "neither enqueue"),
]


@pytest.mark.parametrize(("fields", "field", "reason"), UNFIT)
def test_unfit__names_field_and_reason(fields: dict[str, Any], field: str, reason: str) -> None:
    row = Row(**{"name": "report", "task": TIDY, **fields})
    with pytest.raises(UnfitError, match=reason) as refused:
        understood(row, None)
    assert refused.value.field == field


@pytest.mark.django_db
def test_name_that_differs_in_punctuation_only__is_left_out() -> None:
    store("po.ll", task=TIDY, seconds=1)
    store("po_ll", task=TIDY, seconds=1)
    store("po:ll", task=TIDY, seconds=1)
    assert [one.name for one in stored.survey() if one.reason] == ["po:ll"]


@pytest.mark.django_db
def test_name_declared_by_now__the_code_wins_and_the_row_is_named(caplog: pytest.LogCaptureFixture) -> None:
    store("sweep", task=TIDY, seconds=1)
    assert "declared in the code by now" in found("sweep").reason


@pytest.mark.django_db
def test_argument_that_equals_the_one_before__is_seen() -> None:
    row = store("report", task=TIDY, seconds=1, args=[1])
    assert stored.find("report").args == [1]
    row.args = [True]
    row.save()
    assert stored.find("report").args[0] is True


@pytest.mark.django_db
def test_unknown_name__the_nearest_is_suggested() -> None:
    with pytest.raises(UnknownScheduleError, match="Did you mean 'sweep'"):
        stored.find("swep")


# --- as the leader reads it


@pytest.mark.django_db(transaction=True)
def test_unfit_row__is_left_out_and_said_once_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    store("broken", task="tests.scheduler.tasks.absent", seconds=1)
    store("report", task=TIDY, seconds=1)
    for _ in range(2):
        assert [one.name for one in stored.current()] == ["sweep", "poll", "report"]
    [said] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "schedule left out schedule=broken reason=task: 'tests.scheduler.tasks.absent' cannot be" in said


@pytest.mark.django_db(transaction=True)
def test_table_not_migrated__the_declared_ones_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "scaling_kit.scheduler")
    with connection.schema_editor() as editor:
        editor.delete_model(StoredSchedule)
    try:
        for _ in range(2):
            assert [one.name for one in stored.current()] == ["sweep", "poll"]
        with transaction.atomic():
            assert len(stored.survey()) == 2
            assert not run_checks(tags=["database"], databases=["default"]), "as the first `migrate` runs them"
            assert connection.is_usable(), "the missing table has not broken the transaction"
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(StoredSchedule)
    stored.current()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@contextmanager
def database_at(port: int) -> Iterator[None]:
    config = connections.databases["default"]
    before = config["HOST"], config["PORT"]
    config["HOST"], config["PORT"] = "127.0.0.1", port
    try:
        yield
    finally:
        config["HOST"], config["PORT"] = before


@pytest.mark.django_db(transaction=True)
def test_database_away__those_last_known_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "scaling_kit.scheduler")
    store("report", task=TIDY, seconds=1)
    known = stored.current()
    with database_at(port=1):
        assert stored.current() == known
    assert "schedules readable=False, going on with rows=1" in caplog.text
    assert stored.current() == known
    assert "schedules readable=True" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_database_hangs__the_leader_goes_on_and_sees_it_when_it_answers(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_LEASE_SECONDS = 0.5
    redis = client(Purpose.SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with database_at(port=deaf.getsockname()[1]):
            assert [one.name for one in stored.current()] == ["sweep", "poll"]
            began_at = time.monotonic()
            for _ in range(10):
                stored.current()
            assert time.monotonic() - began_at < 0.1, "it waits once, not each time"
        before = stored.fetch_revision(redis)
        assert stored.fetch_revision(redis) == before
    store("report", task=TIDY, seconds=1)
    wait_until(lambda: len(stored.current()) == 3)
    assert stored.fetch_revision(redis) != before


@pytest.mark.django_db(transaction=True)
def test_database_that_vanished_without_a_word__is_asked_anew() -> None:
    store("report", task=TIDY, seconds=1)
    table = Table(abandon_after_seconds=0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with database_at(port=deaf.getsockname()[1]):
            assert table.read_within(0.1) == []
        rows = wait_until(lambda: table.read_within(2.0))
        assert [row.name for row in rows] == ["report"]
        assert "scaling_kit-schedules" in [thread.name for thread in threading.enumerate()], "one still waits"
    wait_until(lambda: "scaling_kit-schedules" not in [thread.name for thread in threading.enumerate()])
    assert table.rows is rows, "what came too late is not taken"


# --- telling the leader


@pytest.mark.django_db(transaction=True)
def test_revision__changes_with_the_commit_of_a_save_and_of_a_delete() -> None:
    redis = client(Purpose.SCRIPT)
    seen = [stored.fetch_revision(redis)]
    with transaction.atomic():
        row = store("report")
        assert stored.fetch_revision(redis) == seen[-1]
    seen.append(stored.fetch_revision(redis))
    row.delete()
    seen.append(stored.fetch_revision(redis))
    assert len(set(seen)) == 3
    assert 0 < redis.ttl(stored.revision_key()) <= stored.REVISION_TTL_SECONDS


@pytest.mark.django_db(transaction=True)
def test_revision__stays_when_the_transaction_is_rolled_back() -> None:
    before = stored.fetch_revision(client(Purpose.SCRIPT))
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        store("report")
        raise ZeroDivisionError
    assert stored.fetch_revision(client(Purpose.SCRIPT)) == before


@pytest.mark.django_db(transaction=True)
def test_redis_away__the_save_succeeds_with_a_warning(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = "redis://127.0.0.1:1/0"
    store("report")
    assert StoredSchedule.objects.count() == 1
    assert "the leader not told and will see it within 30 s" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_created_again_after_it_was_deleted__starts_now() -> None:
    redis = client(Purpose.SCRIPT)
    redis.hset(claim.state_key("report"), mapping={"tick": 1_000_000_000, "runs": 7})
    store("report", task=TIDY, seconds=1)
    assert redis.hgetall(claim.state_key("report")) == {"runs": "7"}


@pytest.mark.django_db(transaction=True)
def test_changed__the_watermark_of_the_declared_one_stays() -> None:
    redis = client(Purpose.SCRIPT)
    redis.hset(claim.state_key("sweep"), "tick", 1_000_000_000)
    store("sweep", overlap="allow")
    assert redis.hget(claim.state_key("sweep"), "tick") == "1000000000"


@pytest.mark.django_db(transaction=True)
def test_leader__sees_an_argument_that_equals_the_one_before() -> None:
    row = store("report", task=TIDY, seconds=1, overlap="allow", args=[1])
    lease = Lease(status.LEASE, client=client(Purpose.SCRIPT))
    lease.hold()
    ticker = Ticker(stored.current, stored.fetch_revision)
    ticker.run(lease)
    row.args = [True]
    row.save()
    wait_until(lambda: ticker.run(lease) is not None and "(True,)" in call_of_the_last_job())


def call_of_the_last_job() -> str:
    job_ids = waiting("report")
    return str(client(Purpose.SCRIPT).hget(key("queue", "job", job_ids[-1]), "call")) if job_ids else ""


# --- run by hand


@pytest.mark.django_db
def test_run_now__enqueues_at_once_and_is_shown_among_the_runs() -> None:
    job_id = run_now("poll")
    assert waiting() == [job_id]
    [run] = status.fetch_runs("poll")
    assert (run.job_id, run.is_by_hand) == (job_id, True)
    assert job_id == f"cron-poll-now-{run.tick}"
    entry = next(one for one in status.snapshot()["schedules"] if one["name"] == "poll")
    assert (entry["last_job_id"], entry["last_run_at"], entry["last_job_status"]) == (job_id, run.tick, "queued")
    finish(job_id)
    assert status.fetch_job_statuses(stored.find("poll"), [run]) == ["finished"]


@pytest.mark.django_db
def test_run_now_twice_within_a_second__is_once() -> None:
    job_ids = {run_now("poll"), run_now("poll")}
    assert waiting() == sorted(job_ids)


@pytest.mark.django_db
def test_run_now__of_a_task_that_enqueues_itself() -> None:
    plain = PlainTask()
    schedule.add("plain", plain, seconds=60, args=[7])
    job_id = run_now("plain")
    assert plain.enqueued == [(7,)]
    assert [run.job_id for run in status.fetch_runs("plain")] == [job_id]


@pytest.mark.django_db
def test_run_now__of_one_that_cannot_run() -> None:
    store("broken", task="tests.scheduler.tasks.absent", seconds=1)
    with pytest.raises(UnfitError, match="Schedule 'broken' cannot run: task"):
        run_now("broken")


# --- what is shown and checked


@pytest.mark.django_db
def test_snapshot__shows_stored_ones_and_what_cannot_run() -> None:
    store("report", task=TIDY, seconds=1)
    store("broken", task=TIDY, seconds=0)
    shown = status.snapshot()
    assert [one["name"] for one in shown["schedules"]] == ["poll", "report", "sweep"]
    assert shown["unfit"] == [
        {"name": "broken", "origin": "stored", "reason": "seconds: 0 must be a whole number of at least 1"}
    ]


@pytest.mark.django_db
def test_rows_that_cannot_run__are_warned_of_by_a_check_of_the_database() -> None:
    store("report", task=TIDY, seconds=1)
    store("broken", task=TIDY, expression="61 * * * *")
    warned = [one for one in run_checks(databases=["default"]) if one.id == "scaling_kit_scheduler.W007"]
    assert [str(one.msg) for one in warned] == [
        "Schedule 'broken' of the table does not run: expression: '61 * * * *': minute: '61' is not allowed; "
        "0-59, with *, lists, ranges and steps."
    ]
    assert not [one for one in run_checks() if one.id == "scaling_kit_scheduler.W007"]


def test_task_that_is_stored__is_the_one_declared() -> None:
    assert understood(Row("report", task=TIDY, seconds=1), None).task is tidy
