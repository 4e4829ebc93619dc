import os
from concurrent.futures import ThreadPoolExecutor

from django.test import override_settings

from scaling_kit import members
from scaling_kit.testing import wait_until


def test_joined__listed_until_it_leaves() -> None:
    member = members.join("web", state="idle")
    wait_until(members.fetch_members)
    [record] = members.fetch_members()
    assert (record["role"], record["pid"], record["state"]) == ("web", str(os.getpid()), "idle")
    member.update(state="busy")
    wait_until(lambda: members.fetch_members()[0]["state"] == "busy")
    assert members.current() is member
    member.leave()
    assert members.fetch_members() == []
    assert members.current() is None


def test_leaving__hands_over_its_counters() -> None:
    member = members.join("web")
    wait_until(members.fetch_members)
    members.count("tests.counted_last")
    member.leave()
    assert members.fetch_totals()["tests.counted_last"] == 1
    assert members.fetch_members() == []


@override_settings(SCALING_KIT_MEMBER_TTL_SECONDS=0.1)
def test_no_beat_for_the_ttl__gone() -> None:
    members.Member("web").beat()
    assert members.fetch_members()
    wait_until(lambda: not members.fetch_members())


def test_counters__summed_over_beats() -> None:
    member = members.Member("web")
    members.count("tests.seen", 2)
    member.beat()
    members.count("tests.seen")
    member.beat()
    assert members.fetch_totals()["tests.seen"] == 3


def test_many_threads_count_while_it_beats__nothing_lost_or_counted_twice() -> None:
    member = members.Member("web")
    with ThreadPoolExecutor(4) as threads:
        counting = [threads.submit(lambda: [members.count("tests.threads") for _ in range(5000)]) for _ in range(4)]
        while not all(each.done() for each in counting):
            member.beat()
    member.beat()
    assert members.fetch_totals()["tests.threads"] == 20_000
