"""What `cluster monit` draws; that it is drawn is tested in tests/acceptance/test_cluster_limits.py."""

import time
from typing import Any

from django.test import override_settings

from scaling_kit import members
from scaling_kit.cluster import latency
from scaling_kit.cluster.monit import Look, frame
from scaling_kit.cluster.traffic import traffic
from scaling_kit.redis import Purpose, client, key


def process(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "ready",
        "pid": 7,
        "workers": None,
        "starts": 1,
        "since": time.time() - 61,
        "rss_bytes": 50 * 2**20,
        "cpu_seconds": 0.0,
        **facts,
    }


def look(at: float, *processes: dict[str, Any], lines: int = 0) -> Look:
    said = [{"name": "web", "text": f"line {number}"} for number in range(lines)]
    return Look(at=at, processes=processes, lines=said, traffic=["all hosts: 0.0 requests/s"])


def test_cpu__is_of_the_time_between_two_looks() -> None:
    before, now = look(10, process("web", cpu_seconds=1.0)), look(12, process("web", cpu_seconds=2.0, starts=3))
    head, row, *_ = frame(before, now, columns=120, rows=20)
    assert head.split() == ["name", "state", "pid", "workers", "restarts", "cpu", "memory", "since"]
    assert row.split() == ["web", "ready", "7", "-", "2", "50%", "50", "MiB", "1", "min", "1", "s"]


def test_restarted_between_two_looks__has_no_negative_cpu() -> None:
    before, now = look(10, process("web", cpu_seconds=9.0)), look(11, process("web"), process("new", cpu_seconds=5.0))
    rows = frame(before, now, columns=120, rows=20)
    assert " 0%" in rows[1]
    assert " 0%" in rows[2]


def test_small_terminal__is_not_overrun_and_shows_the_last_lines() -> None:
    now = look(1, process("web"), lines=50)
    drawn = frame(now, now, columns=30, rows=8)
    assert len(drawn) == 8
    assert max(map(len, drawn)) <= 30
    assert drawn[-1] == "web         | line 49"
    assert len(frame(now, now, columns=30, rows=2)) == 2


def test_control_characters_in_a_log__do_not_reach_the_terminal() -> None:
    now = Look(at=1, processes=[process("web")], lines=[{"name": "web", "text": "\x1b[2Jgone\r\t!"}], traffic=[])
    assert frame(now, now, columns=80, rows=20)[-1] == "web         |  [2Jgone  !"


def test_done_step__is_not_shown() -> None:
    now = look(1, process("web"), process("migrate", state="done"))
    assert "migrate" not in "".join(frame(now, now, columns=120, rows=20))


def test_traffic__is_that_of_the_last_slot_that_is_over_and_the_queues() -> None:
    redis = client(Purpose.SCRIPT)
    now = int(redis.time()[0])
    last = now - now % members.SLOT_SECONDS - members.SLOT_SECONDS
    counted = {"web.requests": 100, "web.errors": 5, latency.bucket(0.025): 98, latency.bucket(2.5): 2}
    for slot in (last, last + members.SLOT_SECONDS):  # the test may run over the end of one
        redis.hset(f"{key('members', 'history')}:{slot}", mapping=counted)
    requests, *queues = traffic()
    assert requests == "all hosts: 10.0 requests/s, p50 <= 25 ms, p99 <= 2500 ms, 0.5 errors/s"
    assert "queue default: 0 waiting, 0 running, 0 failed" in queues


@override_settings(SCALING_KIT_REDIS_URL="redis://127.0.0.1:1/0")
def test_redis_away__is_said() -> None:
    assert traffic()[0].startswith("requests and queues are not known: Redis at")
