import json
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings
from rest_framework.test import APIRequestFactory, force_authenticate

from scaling_kit import members
from scaling_kit.cluster import marks
from scaling_kit.cluster.overview import overview
from scaling_kit.cluster.views import OverviewView
from scaling_kit.embedded import free_port
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import wait_until

away = override_settings(SCALING_KIT_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")


def snapshot() -> dict[str, Any]:
    return {"waiting": 3}


def broken_snapshot() -> dict[str, Any]:
    raise LookupError("no such queue")


@pytest.fixture
def reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps.get_app_config("auth"), "cluster_status", f"{__name__}.snapshot", raising=False)
    monkeypatch.setattr(apps.get_app_config("admin"), "cluster_status", f"{__name__}.broken_snapshot", raising=False)


def status(*arguments: str) -> str:
    out = StringIO()
    call_command("cluster", "status", *arguments, stdout=out)
    return out.getvalue()


def test_overview__members_with_typed_facts() -> None:
    members.Member("web", state="idle").beat()
    [member] = overview()["members"]
    assert (member["role"], member["info"]["state"]) == ("web", "idle")
    assert isinstance(member["pid"], int)
    assert isinstance(member["started_at"], float)


def test_overview__what_each_app_reports_and_which_one_fails(reporting: None) -> None:
    seen = overview()["apps"]
    assert seen["auth"] == {"snapshot": {"waiting": 3}, "error": None}
    assert seen["admin"] == {"snapshot": None, "error": "LookupError: no such queue"}


def test_status__for_eyes(reporting: None) -> None:
    members.Member("web").beat()
    text = status()
    assert f"host {members.host()}" in text
    assert "waiting  3" in text
    assert "cannot say: LookupError: no such queue" in text


def test_status__leader_that_died_and_still_has_the_lease() -> None:
    Lease("scaling_kit_scheduler", client=client(Purpose.SCRIPT), owner=members.member_id(1)).hold()
    assert "not seen: another follows" in status()


@override_settings(SCALING_KIT_MEMBER_TTL_SECONDS=0.6)
def test_member_whose_beat_is_overdue__late() -> None:
    members.Member("web").beat()
    assert not overview()["members"][0]["late"]
    wait_until(lambda: overview()["members"][0]["late"])
    assert "late: paused?" in status()


def test_clock_of_another_host__does_not_make_it_late() -> None:
    member = members.Member("web")
    member.started_at += 3600
    member.beat()
    [found] = overview()["members"]
    assert not found["late"]
    assert found["beat_age_seconds"] < 1


def test_drained_hosts__are_listed() -> None:
    marks.put("b", ["web"])
    marks.put("a")
    assert [(drain["host"], drain["role"]) for drain in overview()["drains"]] == [("a", "*"), ("b", "web")]
    assert "drained: all of a" in status()
    marks.remove("a")
    marks.remove("b", ["web"])
    assert overview()["drains"] == []


def test_status__nothing_running() -> None:
    assert "no process is running" in status()


def test_status__for_scripts() -> None:
    members.Member("worker").beat()
    assert json.loads(status("--json"))["members"][0]["role"] == "worker"


@away
def test_status__redis_away__one_line() -> None:
    with pytest.raises(CommandError, match=r"^Redis at redis://127.0.0.1:\d+/0 cannot be used: .*$"):
        status()


def ask(user: User | None) -> Any:
    request = APIRequestFactory().get("/cluster/overview/")
    if user is not None:
        force_authenticate(request, user)
    return OverviewView.as_view(authentication_classes=[])(request)


def test_overview_view__for_staff() -> None:
    assert ask(User(username="staff", is_staff=True)).data["members"] == []


@pytest.mark.parametrize("user", [None, User(username="anyone")])
def test_overview_view__for_nobody_else(user: User | None) -> None:
    assert ask(user).status_code == 403


@away
def test_overview_view__redis_away__503() -> None:
    response = ask(User(username="staff", is_staff=True))
    assert (response.status_code, response.data["code"]) == (503, "redis_unavailable")
