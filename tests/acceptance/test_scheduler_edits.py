"""Schedules edited in the admin, and real scheduler processes: an edit takes effect within 2 s, whoever leads."""

import time
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from scaling_kit.scheduler import schedule
from scaling_kit.scheduler.admin import ScheduleForm
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.status import snapshot
from scaling_kit.testing import wait_until
from tests.scheduler.candidates import Candidates, started
from tests.scheduler.queue import Task, ticks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.scheduler.urls")]

WITHIN_SECONDS = 2.0
ADMIN = "admin:scaling_kit_scheduler_storedschedule"
TIDY = "tests.scheduler.tasks.tidy"


def database_url() -> str:
    of = connection.settings_dict
    return f"postgres://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{of['PORT']}/{of['NAME']}"


def schedulers(count: int) -> AbstractContextManager[Candidates]:
    return started(count, lease_seconds=2, environment={"TICKING_DATABASE_URL": database_url()})


@pytest.fixture(autouse=True)
def declared_here_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tests.scheduler.ticking` declares in the processes."""
    monkeypatch.setattr(schedule, "_declared", [])
    schedule.add("all", Task(), seconds=1, catch_up="all")
    schedule.add("latest", Task(), "* * * * * *", overlap="allow")


@pytest.fixture
def browser() -> Client:
    found = Client()
    found.force_login(User.objects.create_superuser("somebody"))
    found.get(reverse(f"{ADMIN}_changelist"))
    return found


def act(browser: Client, action: str, name: str) -> None:
    chosen = {"action": action, "_selected_action": [StoredSchedule.objects.get(name=name).pk]}
    assert browser.post(reverse(f"{ADMIN}_changelist"), chosen).status_code == 302


def save(browser: Client, name: str, **given: Any) -> None:
    row = StoredSchedule.objects.filter(name=name).first()
    url = reverse(f"{ADMIN}_change", args=[row.pk]) if row else reverse(f"{ADMIN}_add")
    blank = {field: "" for field in ScheduleForm.Meta.fields if field not in ("name", "task")}
    own = {"name": name, "task": TIDY, "enabled": "True"} if not row or row.task else {}
    assert browser.post(url, blank | own | given).status_code == 302


def clock() -> float:
    return time.time()  # Redis and the processes are on this machine


def assert_ticks_soon(name: str, *, after: float) -> None:
    """A tick that was due within 2 s after the edit is there; one more second for it to be looked at."""
    wait_until(lambda: any(tick > after for tick in ticks(name)), timeout_seconds=WITHIN_SECONDS + 1)
    assert min(tick for tick in ticks(name) if tick > after) <= after + WITHIN_SECONDS


def assert_ticks_no_more(name: str, *, after: float) -> None:
    wait_until(lambda: max(ticks("all")) > after + WITHIN_SECONDS + 1)  # which goes on all the time
    assert [tick for tick in ticks(name) if tick > after + WITHIN_SECONDS] == []


def assert_others_undisturbed() -> None:
    every = ticks("all")
    assert every == list(range(every[0], every[0] + len(every))), "none twice, none lost"


def switch(browser: Client) -> None:
    act(browser, "disable", "latest")
    assert_ticks_no_more("latest", after=clock())
    act(browser, "enable", "latest")
    assert_ticks_soon("latest", after=clock())


def reword(browser: Client) -> None:
    save(browser, "latest", expression="0 0 1 1 *")
    assert_ticks_no_more("latest", after=clock())
    save(browser, "latest", expression="* * * * * *")
    assert_ticks_soon("latest", after=clock())


def make_and_delete(browser: Client, name: str) -> None:
    save(browser, name, seconds="1", overlap="allow")
    assert_ticks_soon(name, after=clock())
    StoredSchedule.objects.get(name=name).delete()
    assert_ticks_no_more(name, after=clock())


def test_edits__take_effect_within_2_seconds_also_after_the_leader_is_killed(browser: Client) -> None:
    with schedulers(2) as group:
        switch(browser)
        reword(browser)
        make_and_delete(browser, "report")
        save(browser, "kept", seconds="1", overlap="allow")
        first = group.wait_for_leader()
        first.kill()
        group.wait_for_leader(other_than=first)
        assert_ticks_soon("kept", after=clock())
        switch(browser)
        make_and_delete(browser, "report")
        assert ticks("kept") == sorted(set(ticks("kept")))
        assert_others_undisturbed()


def test_edit_while_nobody_leads__is_what_the_next_leader_begins_with(browser: Client) -> None:
    with schedulers(2) as group:
        first = group.wait_for_leader()
        first.kill()
        act(browser, "disable", "latest")
        group.wait_for_leader(other_than=first)
        assert_ticks_no_more("latest", after=clock() - WITHIN_SECONDS)


def test_run_now__reaches_the_queue_without_the_leader(browser: Client) -> None:
    act(browser, "run_now", "latest")
    [entry] = [one for one in snapshot()["schedules"] if one["name"] == "latest"]
    assert entry["last_job_id"].startswith("cron-latest-now-")
