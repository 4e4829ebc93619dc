"""The dashboard, its REST API and its orders: who may do what, and what is answered to everything else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import include, path

from scaling_kit import members
from scaling_kit.cluster import marks, orders, views
from scaling_kit.cluster.refusals import REFUSALS
from scaling_kit.redis import Purpose, client
from scaling_kit.tokens import grants

pytestmark = pytest.mark.django_db

urlpatterns = [path("", include("scaling_kit.cluster.urls")), path("admin/", admin.site.urls)]
LOOKS = ("/cluster/", "/cluster/live/", "/cluster/overview/", "/cluster/history/", "/cluster/hosts/")
ORDERS = "/cluster/orders/"
HOST = "far"
NOWHERE = "redis://127.0.0.1:1/0"
DESCRIBED = {
    "name": "web", "group": None, "once": False, "state": "ready", "pid": 4, "pids": [4, 5], "starts": 1, "since": 0.0,
    "workers": 2, "rss_bytes": 10**8, "cpu_seconds": 1.0, "last_end": None, "command": ["secret"], "user": "root",
}  # fmt: skip


@pytest.fixture(autouse=True)
def page_urls(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ROOT_URLCONF = "tests.cluster.test_views"
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    monkeypatch.setattr(views, "TAKEN_WITHIN_SECONDS", 0.3)


def staff(*codenames: str, **fields: Any) -> User:
    user = User.objects.create_user("staff", password="x", **{"is_staff": True, **fields})
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_of(user: User, **options: Any) -> Client:
    browser = Client(**options)
    browser.force_login(user)
    return browser


@pytest.fixture
def operator() -> Client:
    return client_of(staff("change_process"))


def post(browser: Client, body: Any = None, **extra: Any) -> Any:
    given = {"host": HOST, "verb": "scale", "names": {"web": "+1"}} if body is None else body
    text = given if isinstance(given, str) else json.dumps(given)
    return browser.post(ORDERS, text, content_type="application/json", **extra)


@contextmanager
def runner(answer: dict[str, Any] | None = None) -> Iterator[list[dict[str, Any]]]:
    """One that takes the orders for HOST from the same Redis list, and answers so; None: takes them, and is silent."""
    taken: list[dict[str, Any]] = []
    stopped = threading.Event()
    with override_settings(SCALING_KIT_MEMBER_HOST=HOST):
        members.Member("runner").beat()
    redis, queue = client(Purpose.SCRIPT), orders._orders_key(HOST)

    def take() -> None:
        while not stopped.wait(0.01):
            found: Any = redis.lpop(queue)
            if not found:
                continue
            order = json.loads(found)
            described = order["verb"] == "describe"
            taken.extend([] if described else [order])
            said = {"ok": True, "processes": [DESCRIBED]} if described else answer
            if said is not None:
                redis.rpush(orders._answer_key(order["id"]), json.dumps(said))

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        stopped.set()
        thread.join()


# --- who


@pytest.mark.parametrize("url", LOOKS)
def test_looking__is_for_all_of_the_staff(url: str) -> None:
    user = staff()
    assert client_of(user).get(url).status_code == 200
    User.objects.update(is_staff=False)
    assert client_of(user).get(url).status_code == 403


@pytest.mark.parametrize("codenames", [(), ("change_process",)])
def test_ordering__needs_the_permission(codenames: tuple[str, ...]) -> None:
    browser = client_of(staff(*codenames))
    with runner({"ok": True, "done": {"web": "scaled"}}):
        content = browser.get("/cluster/").content
        assert (b"data-verb" in content) is bool(codenames)
        assert (b"data-verb" in browser.get("/cluster/live/").content) is bool(codenames)
        assert post(browser).status_code == (200 if codenames else 403)


def test_permission_without_being_staff__is_not_enough() -> None:
    assert post(client_of(staff("change_process", is_staff=False))).status_code == 403


def test_nobody__is_sent_to_the_login_or_refused() -> None:
    page = Client().get("/cluster/")
    assert (page.status_code, page["Location"]) == (302, "/admin/login/?next=/cluster/")
    for url in LOOKS[1:]:
        answer = Client().get(url)
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert post(Client()).status_code == 401


def test_bearer_of_a_token__may_what_the_projects_authentication_says() -> None:
    token = grants.begin(User.objects.create_superuser("root")).access
    with runner({"ok": True, "done": {}}):
        assert post(Client(), headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_session_without_csrf_token__cannot_order() -> None:
    browser = client_of(staff("change_process"), enforce_csrf_checks=True)
    with runner({"ok": True, "done": {}}):
        assert post(browser).status_code == 403
        browser.get("/cluster/")
        assert post(browser, headers={"X-CSRFToken": browser.cookies["csrftoken"].value}).status_code == 200


# --- looking


def test_page__is_drawn_by_the_server_and_kept_by_nobody(operator: Client) -> None:
    with runner():
        answer = operator.get("/cluster/")
        text = answer.content.decode()
        assert "no-store" in answer["Cache-Control"]
        assert operator.get("/cluster/live/")["Cache-Control"] == "no-store"
    assert 'data-verb="reload" data-name="web"' in text
    assert 'aria-label="The last 10 minutes: requests between 0 and 0/s"' in text
    assert "style=" not in text  # a policy without inline styles


def test_hosts__what_the_runner_says_without_what_is_for_its_host_alone(operator: Client) -> None:
    with runner():
        text = operator.get("/cluster/hosts/").content.decode()
    [host] = json.loads(text)["hosts"]
    assert (host["host"], host["error"], host["processes"][0]["workers"]) == (HOST, None, 2)
    assert "secret" not in text


def test_runner_that_is_silent__is_told_and_the_rest_is_shown(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling_kit.cluster.runners.WAIT_SECONDS", 0.1)
    with override_settings(SCALING_KIT_MEMBER_HOST=HOST):
        members.Member("runner").beat()
    assert "has not answered within 0.1 s" in operator.get("/cluster/hosts/").json()["hosts"][0]["error"]
    assert "Nothing can be ordered here" in operator.get("/cluster/live/").json()["html"]


def test_what_others_wrote__becomes_text(operator: Client) -> None:
    members.Member("web", state="<script>alert(1)</script>", job='"><img src=x>').beat()
    html = operator.get("/cluster/live/").json()["html"]
    assert "<script>" not in html
    assert "<img" not in html


# --- ordering


@pytest.mark.parametrize(
    ("verb", "names"), [("scale", {"web": "+1"}), ("scale", {"web": 4}), ("reload", ["web"]), ("stop", ["a", "b"])]
)
def test_order__reaches_the_runner_as_it_was_given(operator: Client, verb: str, names: Any) -> None:
    with runner({"ok": True, "done": {"web": "well"}}) as taken:
        answer = post(operator, {"host": HOST, "verb": verb, "names": names})
    assert (answer.status_code, answer.json()["done"]) == (200, {"web": "well"})
    assert taken[0]["verb"] == verb
    assert taken[0]["names"] == ({"web": str(names["web"])} if verb == "scale" else names)


@pytest.mark.parametrize(
    "code", ["unknown_name", "busy", "out_of_range", "not_reloadable", "reload_failed", "not_ready", "stopping"]
)
def test_refusal_of_the_runner__has_its_code_and_reason(operator: Client, code: str) -> None:
    with runner({"ok": False, "code": code, "reason": "as it is", "done": {"a": "b"}}):
        answer = post(operator)
    assert answer.status_code == REFUSALS[code][0]
    assert answer.json() == {"code": code, "detail": "as it is", "done": {"a": "b"}}


@pytest.mark.parametrize("said", [{"ok": False, "code": "internal", "reason": "KeyError()"}, {"ok": False}])
def test_fault_of_the_runner__is_no_error_500(operator: Client, said: dict[str, Any]) -> None:
    with runner(said):
        answer = post(operator)
    assert (answer.status_code, answer.json()["code"]) == (502, "runner_failed")


def test_order_that_takes_long__is_asked_for_again(operator: Client) -> None:
    with runner(None) as taken:
        answer = post(operator)
        assert (answer.status_code, answer.json()["state"]) == (202, "under_way")
        url = f"{ORDERS}{answer.json()['id']}/"
        assert operator.get(url).status_code == 202
        said = {"ok": False, "code": "reload_failed", "reason": "web: ImportError"}
        client(Purpose.SCRIPT).rpush(orders._answer_key(taken[0]["id"]), json.dumps(said))
        for _ in range(2):  # an answer may get lost
            ended = operator.get(url)
            assert (ended.status_code, ended.json()["detail"]) == (409, "web: ImportError")


def test_order_that_nobody_knows(operator: Client) -> None:
    answer = operator.get(f"{ORDERS}nothing/")
    assert (answer.status_code, answer.json()["code"]) == (404, "order_unknown")


def test_host_that_is_not_there__and_one_without_runner(operator: Client) -> None:
    assert post(operator).json()["code"] == "host_unknown"
    with override_settings(SCALING_KIT_MEMBER_HOST=HOST):
        members.Member("web").beat()
    answer = post(operator)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_runner")
    assert "no runner on this host" in answer.json()["detail"]


def test_drain__needs_no_runner_and_is_taken_back(operator: Client) -> None:
    assert post(operator, {"host": HOST, "verb": "drain"}).json()["code"] == "host_unknown"
    with override_settings(SCALING_KIT_MEMBER_HOST=HOST):
        members.Member("web").beat()
    assert post(operator, {"host": HOST, "verb": "drain"}).json()["done"] == {HOST: "unready, and serves on"}
    assert [(mark.host, mark.role) for mark in marks.fetch()] == [(HOST, marks.EVERYTHING)]
    assert 'data-verb="undrain"' in operator.get("/cluster/live/").json()["html"]
    assert post(operator, {"host": HOST, "verb": "undrain"}).status_code == 200
    assert marks.fetch() == []


def test_runner_that_takes_no_orders__nothing_is_done(operator: Client) -> None:
    with override_settings(SCALING_KIT_MEMBER_HOST=HOST):
        members.Member("runner").beat()
    answer = post(operator)
    assert (answer.status_code, answer.json()["code"]) == (504, "no_answer")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"host": HOST, "verb": "down", "names": ["web"]},
        {"host": HOST, "verb": "scale", "names": ["web"]},
        {"host": HOST, "verb": "scale", "names": {}},
        {"host": HOST, "verb": "scale", "names": {"web": None}},
        {"host": HOST, "verb": "scale", "names": {"web": {"a": 1}}},
        {"host": HOST, "verb": "scale", "names": {"web": "1" * 7}},
        {"host": HOST, "verb": "stop", "names": []},
        {"host": HOST, "verb": "stop", "names": "web"},
        {"host": HOST, "verb": "stop", "names": [["web"]]},
        {"host": HOST, "verb": "stop", "names": ["\ud800"]},
        {"host": HOST, "verb": "stop", "names": ["x" * 201]},
        {"host": HOST, "verb": "stop", "names": ["x"] * 101},
        {"host": "\ud800", "verb": "stop", "names": ["web"]},
        {"host": "\x00", "verb": "stop", "names": ["web"]},
        {"host": "x" * 256, "verb": "stop", "names": ["web"]},
    ],
)
def test_bad_order__is_refused_with_a_code(operator: Client, body: Any) -> None:
    with runner({"ok": True, "done": {}}) as taken:
        answer = post(operator, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "request_invalid")
    assert taken == []


@pytest.mark.parametrize("body", ["nonsense", "[" * 100_000])
def test_no_json__is_refused_with_a_code(operator: Client, body: str) -> None:
    assert post(operator, body).json()["code"] == "parse_error"


def test_redis_away__is_said(operator: Client) -> None:
    with override_settings(SCALING_KIT_REDIS_URL=NOWHERE):
        page = operator.get("/cluster/")
        answers = [*(operator.get(url) for url in LOOKS[1:]), post(operator), operator.get(f"{ORDERS}x/")]
    assert page.status_code == 200
    assert b"Redis does not answer" in page.content
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "redis_unavailable")}
