"""The main job, against the whole demo, as a client does it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from scaling_kit.testing import wait_until
from tests.acceptance.demo import Demo
from tests.acceptance.wall import Person, feed, leader, members, picture, wait_until_shown

pytestmark = pytest.mark.xdist_group("demo")  # one running demo for all of them


@pytest.fixture
def ada(demo: Demo) -> Iterator[Person]:
    with closing(Person(demo.url, "ada")) as person:
        yield person


@pytest.fixture
def grace(demo: Demo) -> Iterator[Person]:
    with closing(Person(demo.url, "grace")) as person:
        yield person


@pytest.fixture
def browser(demo: Demo) -> Iterator[httpx.Client]:
    """Someone who is not signed in; each request on a connection of its own, so it may reach any process."""
    with httpx.Client(base_url=demo.url, headers={"Connection": "close"}, timeout=30) as http:
        yield http


def test_seeded_wall__shows_six_photographs_with_their_thumbnails(demo: Demo, browser: httpx.Client) -> None:
    shown = {photo["title"]: photo for photo in feed(browser).json()["results"]}
    assert {"Chelsea the cat", "Eileen Collins", "Grace Hopper", "Hubble eXtreme Deep Field"} <= set(shown)
    thumbnail = browser.get(shown["Chelsea the cat"]["thumbnail"])
    assert thumbnail.status_code == 200
    assert thumbnail.content.startswith(b"\xff\xd8"), "a JPEG"


def test_request_with_a_token__costs_no_query(demo: Demo, ada: Person) -> None:
    script = """
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
import sys
with CaptureQueriesContext(connection) as queries:
    answer = Client().get("/api/me/", headers={"Authorization": "Bearer " + sys.stdin.read(), "Host": "127.0.0.1"})
print(answer.status_code, len(queries))
"""
    assert demo.run_python(script, stdin=ada.access) == "200 0"


def test_photo_put_up__reaches_the_sockets_of_every_process(demo: Demo, ada: Person, grace: Person) -> None:
    with ada.listening("wall") as first, ada.listening("wall") as second, ada.listening("wall") as third:
        photo = grace.put_up("To everyone", picture())
        for listener in (first, second, third):
            assert listener.event("photo.ready", id=photo)["title"] == "To everyone"
        serving = wait_until(lambda: [m for m in members(ada.http, "websocket") if int(m.get("sockets", 0))])
    web = {member["pid"] for member in members(ada.http, "web")}
    workers = {member["pid"] for member in members(ada.http, "worker")}
    assert not {member["pid"] for member in serving} & (web | workers), "another process than those that worked on it"


def test_feed__second_read_is_a_hit_from_whichever_process(demo: Demo, browser: httpx.Client) -> None:
    wait_until(lambda: feed(browser).headers["X-Cache"] == "hit")
    with ThreadPoolExecutor(8) as at_once:  # so that nginx needs several connections, which several processes accept
        answers = list(at_once.map(lambda _: feed(browser), range(80)))
    assert {answer.headers["X-Cache"] for answer in answers} == {"hit"}
    assert len({answer.headers["X-Served-By"] for answer in answers}) == len(members(browser, "web"))


def test_first_read_after_a_like__shows_it(demo: Demo, ada: Person, browser: httpx.Client) -> None:
    photo = feed(browser).json()["results"][0]
    for method, expected in (("POST", photo["likes"] + 1), ("DELETE", photo["likes"])):
        answer = ada.http.request(method, f"/api/photos/{photo['id']}/like/")
        assert answer.json()["likes"] == expected
        shown = next(p for p in feed(browser).json()["results"] if p["id"] == photo["id"])
        assert shown["likes"] == expected


def test_first_read_after_a_new_photo__shows_it(demo: Demo, ada: Person, browser: httpx.Client) -> None:
    title = f"New {uuid.uuid4().hex[:6]}"
    with ada.listening("wall") as listener:
        feed(browser)
        photo = ada.put_up(title, picture())
        listener.event("photo.ready", id=photo)
        assert feed(browser).json()["results"][0]["title"] == title


def test_web_worker_killed__is_replaced_and_nobody_notices(demo: Demo, browser: httpx.Client) -> None:
    before = {member["pid"] for member in members(browser, "web")}
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    assert [feed(browser).status_code for _ in range(20)] == [200] * 20
    now = wait_until(lambda: _complete(browser, "web", len(before), without=killed), what="a new web worker")
    assert killed not in now


def test_worker_killed_in_mid_job__photo_gets_its_thumbnail(demo: Demo, ada: Person) -> None:
    with ada.listening(f"user:{ada.id}") as listener:
        upload = ada.upload("Large", picture((6000, 4500)))
        photo = upload["photo"]
        listener.event("photo.progress", id=photo, percent=50)
        [worker] = [member for member in members(ada.http, "worker") if member["job"] == upload["job"]]
        os.kill(worker["pid"], signal.SIGKILL)
        shown = wait_until_shown(ada.http, photo)
    assert httpx.get(shown["thumbnail"]).status_code == 200


def test_leader_killed__every_tick_runs_once(demo: Demo, browser: httpx.Client) -> None:
    wait_until(lambda: len(demo.ticks()) >= 3, timeout_seconds=20, what="ticks")
    killed = leader(browser)["pid"]
    at_kill = len(demo.ticks())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(demo.ticks()) >= at_kill + 6, timeout_seconds=30, what="ticks under the new leader")
    assert leader(browser)["pid"] != killed
    ticks = demo.ticks()
    assert {tick.runs for tick in ticks} == {1}
    times = [tick.at for tick in ticks]
    assert times == list(range(times[0], times[0] + len(times))), "each second once, none left out"


def _complete(browser: httpx.Client, role: str, count: int, *, without: int) -> set[int]:
    now = {member["pid"] for member in members(browser, role)}
    return now if len(now) >= count and without not in now else set()
