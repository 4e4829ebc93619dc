from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim, schedule, status
from tests.scheduler.queue import Backend, Task, waiting


@pytest.fixture(autouse=True)
def one_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_declared", [])
    schedule.add("sweep", Task(), "@hourly", tz="Europe/Paris")


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
    assert "last 20" in runscheduler("--list")


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
