import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim, schedule, status, stored
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.outlook import Effect, effects
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.timetable import Cron, Interval, Timetable
from tests.scheduler.queue import Backend, Task, waiting

pytestmark = pytest.mark.django_db(transaction=True)
NO_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def one_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_declared", [])
    schedule.add("sweep", Task(), "@hourly", tz="Europe/Paris")
    monkeypatch.setattr(stored, "_table", stored.Table())


def runscheduler(*options: str) -> str:
    out = StringIO()
    call_command("runscheduler", *options, stdout=out)
    return out.getvalue()


def missed_tick() -> None:
    client(Purpose.SCRIPT).hset(claim.state_key("sweep"), "tick", 1_000_000_000)


def test_once__enqueues_what_is_due_and_leaves() -> None:
    missed_tick()
    runscheduler("--once")
    assert len(waiting()) == 1
    runscheduler("--once")
    assert len(waiting()) == 1


def test_once_while_another_leads__enqueues_nothing_and_fails() -> None:
    missed_tick()
    Lease(status.LEASE, client=client(Purpose.SCRIPT)).hold()
    with pytest.raises(CommandError, match="Another scheduler leads"):
        runscheduler("--once")
    assert waiting() == []


def test_list__shows_schedules_and_their_runs() -> None:
    assert "sweep  [@hourly Europe/Paris]  next 20" in (shown := runscheduler("--list"))
    assert shown.endswith("last never\n")
    missed_tick()
    runscheduler("--once")
    shown = runscheduler("--list")
    assert "last 20" in shown
    assert shown.endswith(f"job {waiting()[0]} queued\n")


def test_snapshot__names_the_leader() -> None:
    assert status.snapshot()["leader"] is None
    lease = Lease(status.LEASE, client=client(Purpose.SCRIPT), owner="host:42")
    lease.hold()
    shown = status.snapshot()
    assert (shown["leader"], shown["epoch"]) == ("host:42", lease.epoch)
    [entry] = shown["schedules"]
    assert entry["name"] == "sweep"
    assert entry["next_run_at"] > lease.now()


def test_redis_unreachable__fails_with_one_line(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = "redis://:secret@127.0.0.1:1/0"
    with pytest.raises(CommandError, match=r"Redis at redis://:\*\*\*@127.0.0.1:1/0 cannot be used") as failed:
        runscheduler()
    assert "\n" not in str(failed.value)


def test_queue_in_another_redis__is_refused_at_the_start() -> None:
    schedule.add("elsewhere", Task(backend=Backend(redis_url="redis://127.0.0.1:1/0")), seconds=1)
    with pytest.raises(CommandError, match=r"'elsewhere' cannot be enqueued.*SCALING_KIT_SCHEDULER_REDIS_URL"):
        runscheduler()


# --- what will run


def test_list__as_json_is_the_snapshot() -> None:
    assert json.loads(runscheduler("--list", "--json")) == json.loads(json.dumps(status.snapshot()))


def test_list__says_what_does_not_run_and_why() -> None:
    StoredSchedule.objects.create(name="formerly")
    assert "formerly  does not run: its declaration is gone from the code" in runscheduler("--list")


def test_list_without_redis__fails_with_one_line(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = NO_REDIS
    with pytest.raises(CommandError, match="cannot be used"):
        runscheduler("--list")


def test_json_without_list__is_refused() -> None:
    with pytest.raises(CommandError, match="--json goes with --list"):
        runscheduler("--json")


def test_dry_run__all_schedules_in_order_in_utc_and_local_time_without_redis(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = NO_REDIS
    schedule.add("often", Task(), "*/20 * * * *")
    schedule.add("never", Task(), seconds=1, enabled=False)
    StoredSchedule.objects.create(name="kept", task="tests.scheduler.tasks.tidy", seconds=3600)
    lines = runscheduler("--dry-run", "3").splitlines()
    assert [line.split()[-1] for line in lines].count("sweep") == 3
    assert len(lines) == 9 + 3 + 3
    assert lines == sorted(lines)
    moment, zoned = lines[-1][:20], next(line for line in lines if line.endswith("sweep"))
    assert datetime.strptime(moment, "%Y-%m-%d %H:%M:%SZ")
    assert "00:00 CE" in zoned


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "many"])
def test_dry_run__of_no_time_is_refused(hours: str) -> None:
    with pytest.raises(CommandError, match="--dry-run"):
        runscheduler("--dry-run", hours)


def test_explain__in_words_with_runs_and_options() -> None:
    missed_tick()
    runscheduler("--once")
    shown = runscheduler("--explain", "sweep")
    assert shown.startswith("sweep: At the start of every hour (Europe/Paris)\n")
    assert "options: catch_up=latest overlap=skip grace=no limit jitter=0 s enabled=True" in shown
    assert shown.count("00:00Z  20") == 11, "ten to come and one that was"
    assert f"{waiting()[0]}  queued" in shown
    assert "the clock goes" in shown


def test_explain__without_redis_tells_all_but_the_last_runs(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = NO_REDIS
    shown = runscheduler("--explain", "sweep")
    assert shown.count("00:00Z  20") == 10
    assert "unknown, since Redis does not answer" in shown


@pytest.mark.parametrize("option", ["--explain", "--run"])
def test_unknown_name__fails_with_the_nearest(option: str) -> None:
    with pytest.raises(CommandError, match=r"^There is no schedule 'swep'\. Did you mean 'sweep'\?$"):
        runscheduler(option, "swep")


def test_explain__of_one_that_cannot_run_fails_with_the_reason() -> None:
    StoredSchedule.objects.create(name="formerly")
    with pytest.raises(CommandError, match="'formerly' cannot run: its declaration is gone"):
        runscheduler("--explain", "formerly")


def test_run__enqueues_at_once_and_prints_the_job() -> None:
    job_id = runscheduler("--run", "sweep").strip()
    assert waiting() == [job_id]


def effects_of_2027(timetable: Timetable) -> list[Effect]:
    year = [datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2027, 2028)]
    return effects(Schedule(name="x", task=Task(), timetable=timetable), after=year[0], until=year[1])


@pytest.mark.parametrize(
    ("expression", "skipped", "passes"),
    [
        ("30 2 * * *", 1, (1, 0)),
        ("0 12 * * *", 0, (0, 0)),
        ("*/30 * * * *", 2, (2, 2)),
    ],
)
def test_clock_changes__what_they_do_to_a_schedule(expression: str, skipped: int, passes: tuple[int, int]) -> None:
    spring, autumn = effects_of_2027(Cron(expression=expression, tz="Europe/Paris"))
    assert datetime.fromtimestamp(spring.change.at, UTC) == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(autumn.change.at, UTC) == datetime(2027, 10, 31, 1, tzinfo=UTC)
    assert len(spring.skipped) == skipped
    assert (autumn.first_pass, autumn.second_pass) == passes
    if skipped:
        assert spring.next_tick == spring.change.at, "at the end of the gap"


def test_clock_changes__do_not_matter_to_utc_and_to_intervals() -> None:
    assert effects_of_2027(Cron(expression="30 2 * * *")) == []
    assert effects_of_2027(Interval(seconds=1)) == []
