"""What the dashboard shows, from what was told."""

import time
from typing import Any

import pytest

from scaling_kit import members
from scaling_kit.cluster import board, charts
from scaling_kit.cluster.board import Board
from scaling_kit.cluster.charts import History
from scaling_kit.cluster.runners import Runner

NOW = 1_790_000_000.0
EMPTY = charts.slot(0, 10.0, {}, {})


def member(pid: int, role: str = "web", host: str = "one", **more: Any) -> dict[str, Any]:
    facts = {"started_at": NOW - 300, "beat_at": NOW - 2, "rss_bytes": 50_000_000, "cpu_seconds": 30.0, "release": "r1"}
    info = more.pop("info", {})
    return {"id": f"{host}:{pid}", "pid": pid, "role": role, "host": host, **facts, **more, "info": info}


def process(name: str, pids: list[int], **more: Any) -> dict[str, Any]:
    facts = {"state": "ready", "pid": pids[0] if pids else None, "starts": 1, "since": NOW - 60, "workers": None}
    rest = {"rss_bytes": 10**8, "cpu_seconds": 1.0, "group": None, "once": False, "last_end": None}
    return {"name": name, "pids": pids, **facts, **rest, **more}


def shown(*found: dict[str, Any], processes: Any = (), apps: Any = None, **more: Any) -> Board:
    seen = {"at": NOW, "answered_by": "one:2", "members": list(found), "counters": {}, "apps": apps or {}, **more}
    asked = {"one": Runner(host="one", processes=tuple(processes))} if processes else {}
    return board.board(seen, asked, History(slots=(EMPTY,), recent=EMPTY))


def test_members__are_under_the_process_of_the_runner_that_they_belong_to() -> None:
    processes = [
        process("valkey", [9]),
        process("scheduler.1", [7], group="scheduler"),
        process("scheduler.2", [8], group="scheduler"),
        process("web", [1, 2, 3], workers=2),
        process("mailer", [5], group="mailer"),
    ]
    found = [member(2), member(3), member(7, "scheduler"), member(8, "scheduler"), member(1, "runner")]
    [host] = shown(*found, processes=processes).hosts
    assert [(group.name, group.running, len(group.rows)) for group in host.groups] == [
        ("web", 2, 2),
        ("scheduler", 2, 2),
        ("mailer", 1, 0),
    ]
    assert all(group.can_scale and group.is_managed for group in host.groups)
    assert [other.name for other in host.others] == ["valkey"]
    assert [row.answered for row in host.groups[0].rows] == [True, False]


def test_host_without_runner__has_its_members_by_role_and_takes_no_orders() -> None:
    [host] = shown(member(4, "supervisor"), member(5, "worker", info={"state": "busy", "job": "x"}), member(6)).hosts
    assert [(group.name, len(group.rows), group.is_managed) for group in host.groups] == [
        ("web", 1, False),
        ("workers", 2, False),
    ]
    assert host.note.startswith("no runner")
    assert host.groups[1].rows[1].doing == "x"


def test_stopped_process__is_there_though_nobody_beats() -> None:
    [host] = shown(member(1, "runner"), processes=[process("web", [], workers=2, state="stopped")]).hosts
    assert (host.groups[0].state, host.groups[0].is_stopped, host.groups[0].tone) == ("stopped", True, "warn")


def test_group_of_different_states__tells_them() -> None:
    processes = [
        process("s.1", [7], group="s"),
        process("s.2", [8], group="s", state="starting", starts=3, last_end="9"),
    ]
    [host] = shown(member(1, "runner"), processes=processes).hosts
    assert host.groups[0].state == "1 ready, 1 starting"
    assert host.groups[0].note.endswith("started again 2 times · last ended with 9")


@pytest.mark.parametrize("late", [{"late": True}, {"beat_at": NOW - members.settings.TTL_SECONDS * 0.8}])
def test_member_that_does_not_beat__is_late(late: dict[str, Any]) -> None:
    [host] = shown(member(2, **late), member(3)).hosts
    assert [row.state for row in host.groups[0].rows] == ["late", "ready"]
    assert (host.groups[0].state, host.groups[0].tone) == ("late: 1", "bad")


def test_cpu__now_if_it_says_so_and_else_since_its_start() -> None:
    [host] = shown(member(2), member(3, cpu_percent=42.4)).hosts
    assert [row.cpu for row in host.groups[0].rows] == ["10 %", "42 %"]


def test_what_it_does__in_a_line() -> None:
    [host] = shown(member(2, info={"requests": "1", "sockets": "3"})).hosts
    assert host.groups[0].rows[0].doing == "1 request · 3 sockets"


def test_two_hosts__and_one_of_them_drained() -> None:
    found = shown(member(2), member(3, host="two"), drains=[{"host": "two", "role": "*", "since": NOW - 5}])
    assert found.summary == "2 processes on 2 hosts"
    assert [host.draining for host in found.hosts] == ["", "drained 5 s ago"]


def test_runner_that_does_not_answer__is_told() -> None:
    seen = {"at": NOW, "answered_by": "", "members": [member(1, "runner"), member(2)], "counters": {}, "apps": {}}
    found = board.board(seen, {"one": Runner(host="one", error="it is silent")}, History(slots=(EMPTY,), recent=EMPTY))
    assert (found.hosts[0].problem, found.hosts[0].is_managed) == ("it is silent", False)


def test_app_that_cannot_say__is_told_and_the_others_are_shown() -> None:
    jobs = {"queues": {"low": {"waiting": 3, "oldest_seconds": 40.0, "running": 0, "scheduled": 0, "failed": 1}}}
    jobs["queues"]["low"]["paused"] = True  # type: ignore[assignment]
    apps = {
        "scaling_kit_jobs": {"snapshot": jobs, "error": None},
        "scaling_kit_scheduler": {"snapshot": None, "error": "RuntimeError: no"},
        "shop": {"snapshot": {"open_orders": 1234, "name": "x", "good": True}, "error": None},
    }
    found = shown(apps=apps)
    assert found.problems == ("scaling_kit_scheduler cannot say: RuntimeError: no",)
    assert found.queues is not None
    assert (found.queues[0].oldest, found.queues[0].is_slow, found.queues[0].is_paused) == ("40 s", True, True)
    assert found.leader is None
    assert ("shop: open orders", "1\u202f234") in [(figure.label, figure.value) for figure in found.figures]


def test_schedules__that_run_and_that_cannot() -> None:
    entry = {"name": "pick", "timetable": "every 5 s", "enabled": True, "next_run_at": NOW + 4, "last_run_at": NOW - 1}
    snapshot = {
        "leader": None,
        "epoch": None,
        "schedules": [entry | {"runs": 3, "last_job_status": "finished"}],
        "unfit": [{"name": "gone", "origin": "stored", "reason": "no such task"}],
    }
    found = shown(apps={"scaling_kit_scheduler": {"snapshot": snapshot, "error": None}})
    assert found.leader == "Nobody leads: no schedule runs."
    assert [(one.next, one.last, one.status) for one in found.schedules] == [
        ("in 4 s", "1 s ago", "finished"),
        ("never", "", "no such task"),
    ]


def test_look__at_nothing() -> None:
    found = board.look()
    assert (found.hosts, found.summary) == ((), "0 processes on 0 hosts")
    assert len(found.charts) == 6


def test_look__at_this_process() -> None:
    members.Member("web").beat()
    [host] = board.look().hosts
    assert host.name == members.host()
    assert time.time() > 0
