import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from scaling_kit.scheduler import every, schedule
from scaling_kit.scheduler.timetable import Cron, Interval
from tests.scheduler.queue import PlainTask, Task


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_declared", [])


def found_ids() -> list[str]:
    return [message.id or "" for message in run_checks() if (message.id or "").startswith("scaling_kit_scheduler")]


def test_every__declares_and_returns_the_task() -> None:
    task = Task()
    assert every("*/5 * * * *", tz="Europe/Paris", name="sweep", kwargs={"deep": True})(task) is task
    [declared] = schedule.discovered()
    assert (declared.name, declared.task, declared.kwargs) == ("sweep", task, {"deep": True})
    assert declared.timetable == Cron(expression="*/5 * * * *", tz="Europe/Paris")


def test_name__is_the_dotted_path_unless_given() -> None:
    class Job:
        module_path = "shop.tasks.send"

        def enqueue(self) -> None: ...

    every(seconds=30)(Job())
    [declared] = schedule.discovered()
    assert declared.name == "shop.tasks.send"
    assert declared.timetable == Interval(seconds=30)
    assert declared.job_id(60) == "cron-shop-tasks-send-60"


@pytest.mark.parametrize("times", [{}, {"expression": "@daily", "seconds": 5}])
def test_neither_or_both_times__are_refused(times: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="'x' needs either"):
        schedule.add("x", Task(), **times)


@pytest.mark.parametrize(("catch_up", "overlap"), [("latest", "skip"), ("all", "allow")])
def test_overlap__is_skipped_unless_every_tick_is_wanted(catch_up: schedule.CatchUp, overlap: str) -> None:
    schedule.add("x", Task(), seconds=1, catch_up=catch_up)
    assert schedule.discovered()[0].overlap == overlap


def test_sound_schedules__pass_the_checks() -> None:
    schedule.add("one", Task(), "@daily", tz="Europe/Paris")
    schedule.add("two", PlainTask(), seconds=30, catch_up="all", grace_seconds=60.0, overlap="allow")
    assert found_ids() == []


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"expression": "61 * * * *"}, "E002"),
        ({"seconds": 0}, "E002"),
        ({"expression": "@daily", "tz": "Mars/Olympus"}, "E003"),
        ({"seconds": 1, "catch_up": "none"}, "E005"),
        ({"seconds": 1, "overlap": "never"}, "E005"),
        ({"seconds": 1, "grace_seconds": 0}, "E005"),
    ],
)
def test_mistake__is_a_system_check(declared: dict[str, Any], expected: str) -> None:
    schedule.add("wrong", Task(), **declared)
    assert found_ids() == [f"scaling_kit_scheduler.{expected}"]


def test_task_decorator_forgotten__is_a_system_check() -> None:
    every(seconds=1)(test_sound_schedules__pass_the_checks)
    assert found_ids() == ["scaling_kit_scheduler.E005"]


def test_names_that_differ_in_punctuation_only__would_share_job_ids() -> None:
    schedule.add("a.b", Task(), seconds=1)
    schedule.add("a-b", Task(), seconds=1)
    assert found_ids() == ["scaling_kit_scheduler.E004"]


@override_settings(SCALING_KIT_SCHEDULER_LEASE_SECONDS=0.1)
def test_lease_too_short__is_a_system_check() -> None:
    assert found_ids() == ["scaling_kit_scheduler.E006"]


def test_cronsim_missing__is_a_system_check(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule.add("wrong", Task(), "61 * * * *")
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert found_ids() == ["scaling_kit_scheduler.E001"]
