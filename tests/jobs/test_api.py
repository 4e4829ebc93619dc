"""The REST API and the pages: who may do what, and what is answered to everything else."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.checks import run_checks
from django.test import Client, modify_settings, override_settings
from django.urls import reverse
from django.utils import timezone

from scaling_kit import embedded, recipes
from scaling_kit.jobs import control, transitions, urls
from scaling_kit.jobs import queues as places
from scaling_kit.jobs.refusals import REFUSALS
from scaling_kit.tokens import grants
from tests.jobs import tasks
from tests.jobs.conftest import Queues

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.jobs.urls")]

JOBS = "/jobs/api/jobs/"


@pytest.fixture(autouse=True)
def no_connections() -> None:
    """These tests have a database, and no worker."""


def staff(*permissions: str) -> User:
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="scaling_kit_jobs", codename__in=permissions)
    )
    return user


def client_of(user: User) -> Client:
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return client


@pytest.fixture
def operator(queues: Queues) -> Client:
    return client_of(staff("view_job", "change_job"))


def post(client: Client, url: str, body: Any = None, **extra: Any) -> Any:
    return client.post(url, json.dumps(body or {}), content_type="application/json", **extra)


def enqueue(queues: Queues, **using: Any) -> str:
    return tasks.append_at_once.using(queue_name=queues.default, **using).enqueue("ran").id


def test_permissions__can_be_given() -> None:
    found = Permission.objects.filter(content_type__app_label="scaling_kit_jobs").values_list("codename", flat=True)
    assert set(found) == {"view_job", "change_job"}


# --- who


@pytest.mark.parametrize("permissions", [(), ("view_job",), ("change_job",)])
def test_staff__may_what_they_were_given(queues: Queues, permissions: tuple[str, ...]) -> None:
    client, job_id = client_of(staff(*permissions)), enqueue(queues)
    look = client.get(f"{JOBS}{job_id}/").status_code, client.get("/jobs/").status_code
    assert look == ((200, 200) if permissions else (403, 403))
    act = post(client, f"{JOBS}{job_id}/cancel/")
    assert act.status_code == (200 if permissions == ("change_job",) else 403)


def test_view_without_change__is_refused_every_way_to_act(queues: Queues) -> None:
    client, job_id = client_of(staff("view_job")), enqueue(queues)
    actions = [f"{JOBS}{job_id}/{name}/" for name in ("cancel", "retry", "run-now")]
    actions += [
        f"/jobs/api/queues/{queues.default}/{name}/" for name in ("pause", "resume", "empty", "retry-failed", "remove")
    ]
    answers = [post(client, url) for url in [*actions, JOBS]]
    answers += [client.delete(f"{JOBS}{job_id}/"), client.patch(f"{JOBS}{job_id}/")]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "permission_denied")}


def test_page__has_no_buttons_for_who_may_only_look(queues: Queues) -> None:
    assert b'data-may-change="true"' not in client_of(staff("view_job")).get("/jobs/").content


def test_permissions_without_being_staff__are_not_enough(queues: Queues) -> None:
    user = staff("view_job", "change_job")
    user.is_staff = False
    user.save()
    assert client_of(user).get(JOBS).status_code == 403


def test_superuser__may_all(queues: Queues) -> None:
    client = client_of(User.objects.create_superuser("root"))
    assert post(client, f"/jobs/api/queues/{queues.default}/pause/").json()["paused"] is True


def test_nobody__is_sent_to_the_login_or_refused(queues: Queues) -> None:
    page = Client().get("/jobs/?x=1")
    assert (page.status_code, page["Location"]) == (302, "/admin/login/?next=/jobs/%3Fx%3D1")
    answer = Client().get(JOBS)
    assert answer.status_code in (401, 403)
    assert answer.json()["code"] == "not_authenticated"


def test_bearer_of_a_token__may_what_the_projects_authentication_says(queues: Queues) -> None:
    token = grants.begin(User.objects.create_superuser("root")).access
    assert Client().get(JOBS, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    refused = Client().get(JOBS, headers={"Authorization": "Bearer nonsense"})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_malformed")


def test_session_without_csrf_token__cannot_act(queues: Queues) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff("change_job"))
    job_id = enqueue(queues)
    assert post(client, f"{JOBS}{job_id}/cancel/").status_code == 403
    client.get("/jobs/")
    token = client.cookies["csrftoken"].value
    assert post(client, f"{JOBS}{job_id}/cancel/", headers={"X-CSRFToken": token}).status_code == 200


# --- look


def test_queues__with_their_counts(operator: Client, queues: Queues) -> None:
    enqueue(queues)
    found = operator.get("/jobs/api/queues/").json()["queues"]
    assert [queue["name"] for queue in found] == queues.names
    assert (found[1]["waiting"], found[1]["paused"]) == (1, False)


def test_jobs__by_page_state_and_task(operator: Client, queues: Queues) -> None:
    job_ids = [enqueue(queues) for _ in range(3)]
    page = operator.get(JOBS, {"queue": queues.default, "per_page": 2, "page": 2}).json()
    assert ([job["id"] for job in page["jobs"]], page["total"], page["pages"]) == (job_ids[2:], 3, 2)
    assert operator.get(JOBS, {"state": "failed"}).json()["jobs"] == []
    assert operator.get(JOBS, {"task": "append", "order": "newest"}).json()["jobs"][0]["id"] == job_ids[2]


def test_job__with_everything(operator: Client, queues: Queues) -> None:
    job_id = enqueue(queues, priority=3)
    answer = operator.get(f"{JOBS}{job_id}/")
    found = answer.json()
    assert (found["task"], found["priority"], found["args"]) == ("tests.jobs.tasks.append_at_once", 3, ["ran"])
    assert found["actions"] == ["cancel", "priority", "remove"]
    assert answer["Cache-Control"] == "no-store"


def test_job_of_which_every_part_is_rubbish__is_an_answer(operator: Client, queues: Queues) -> None:
    job_id = enqueue(queues)
    redis = places.connection(queues.default)
    rubbish = b'\xff{"x": NaN, "y": "\\ud800"}'
    for name in redis.hkeys(places.job_key(job_id)):
        redis.hset(places.job_key(job_id), name, rubbish)
    redis.hset(
        places.record_key(job_id), mapping={"progress": rubbish[1:], "error:1": rubbish[1:], "worker:1": rubbish}
    )
    assert operator.get(f"{JOBS}{job_id}/").status_code == 200
    assert operator.get(JOBS).status_code == 200


def test_log__after_a_line(operator: Client, queues: Queues) -> None:
    job_id = enqueue(queues)
    for number in range(2):
        places.connection(queues.default).xadd(
            f"{places.record_key(job_id)}".replace("record", "log"), {"message": number}
        )
    first, second = operator.get(f"{JOBS}{job_id}/log/").json()["lines"]
    assert operator.get(f"{JOBS}{job_id}/log/", {"after": first["entry"]}).json()["lines"] == [second]


# --- act


def test_canceled_retried_and_removed(operator: Client, queues: Queues) -> None:
    url = f"{JOBS}{enqueue(queues)}/"
    assert post(operator, f"{url}cancel/").json()["outcome"] == "canceled"
    assert post(operator, f"{url}retry/").json()["outcome"] == "queued"
    assert operator.patch(url, {"priority": 7}, content_type="application/json").json()["priority"] == 7
    assert operator.delete(url).status_code == 204
    assert operator.get(url).json()["code"] == "job_unknown"


def test_scheduled__is_run_now(operator: Client, queues: Queues) -> None:
    url = f"{JOBS}{enqueue(queues, run_after=timedelta(hours=1))}/"
    assert post(operator, f"{url}run-now/").status_code == 200
    refused = post(operator, f"{url}run-now/")
    assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "job_state", "queued")


def test_queue__is_paused_emptied_and_resumed(operator: Client, queues: Queues) -> None:
    enqueue(queues)
    url = f"/jobs/api/queues/{queues.default}/"
    assert post(operator, f"{url}pause/").json()["paused"] is True
    assert post(operator, f"{url}empty/").json() == {"done": 1, "skipped": 0, "remaining": 0}
    assert post(operator, f"{url}resume/").json()["paused"] is False
    control.cancel(enqueue(queues))
    assert post(operator, f"{url}remove/", {"state": "canceled"}).json()["done"] == 1
    assert post(operator, f"{url}retry-failed/").json()["done"] == 0


def test_running_job_that_no_worker_answers_for__is_said(operator: Client, queues: Queues) -> None:
    job_id = enqueue(queues)
    transitions.claim(queues.names, "test-w1", "e1")
    answer = post(operator, f"{JOBS}{job_id}/cancel/")
    assert (answer.status_code, answer.json()["code"]) == (409, "worker_silent")
    assert operator.delete(f"{JOBS}{job_id}/").json()["code"] == "job_state"


# --- enqueue


ADD = "tests.jobs.tasks.add"


def test_without_the_setting__no_task_can_be_enqueued(operator: Client, queues: Queues) -> None:
    answer = post(operator, JOBS, {"task": ADD, "args": [1, 2]})
    assert (answer.status_code, answer.json()["code"]) == (403, "task_forbidden")


@override_settings(SCALING_KIT_JOBS_API_TASKS=[ADD, "tests.jobs.tasks.plain", "tests.jobs.tasks.third_time_lucky"])
def test_listed_task__is_enqueued_with_what_fits_it(
    operator: Client, queues: Queues, django_capture_on_commit_callbacks: Any
) -> None:
    at = (timezone.now() + timedelta(hours=1)).isoformat()
    body = {"task": ADD, "args": [1], "kwargs": {"b": 2}, "queue": queues.low, "priority": 9, "run_after": at}
    with django_capture_on_commit_callbacks(execute=True):
        answer = post(operator, JOBS, body)
    assert answer.status_code == 201
    found = operator.get(answer["Location"]).json()
    assert (found["state"], found["queue"], found["priority"], found["kwargs"]) == (
        "scheduled",
        queues.low,
        9,
        {"b": 2},
    )
    for wrong, status, code in [
        ({"args": [1, 2, 3]}, 422, "arguments_invalid"),
        ({"kwargs": {"\ud800": 1}}, 422, "arguments_invalid"),
        ({"task": "tests.jobs.tasks.plain"}, 422, "task_unknown"),
        ({"queue": "nowhere"}, 400, "request_invalid"),
        ({"priority": 101}, 400, "request_invalid"),
        ({"args": "text"}, 400, "request_invalid"),
    ]:
        refused = post(operator, JOBS, {"task": ADD, "args": [1, 2], "queue": queues.low, **wrong})
        assert (refused.status_code, refused.json()["code"]) == (status, code), wrong


# --- everything else


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("get", f"{JOBS}?state=nonsense", "", 400, "request_invalid"),
        ("get", f"{JOBS}?page=0", "", 400, "request_invalid"),
        ("get", f"{JOBS}?page=99999999999999999999", "", 400, "request_invalid"),
        ("get", f"{JOBS}?page=1000000&per_page=200", "", 200, None),
        ("get", f"{JOBS}?queue=nowhere", "", 404, "queue_unknown"),
        ("get", f"{JOBS}?task=%ff%00", "", 400, "request_invalid"),
        ("get", f"{JOBS}nothing/", "", 404, "job_unknown"),
        ("get", f"{JOBS}%ff%00/", "", 404, "job_unknown"),
        ("get", f"{JOBS}nothing/log/?after=%2B", "", 400, "request_invalid"),
        ("post", f"{JOBS}nothing/cancel/", "", 404, "job_unknown"),
        ("post", f"{JOBS}nothing/cancel/", "{", 404, "job_unknown"),
        ("patch", f"{JOBS}nothing/", "{", 400, "parse_error"),
        ("patch", f"{JOBS}nothing/", "[]", 400, "request_invalid"),
        ("patch", f"{JOBS}nothing/", "[" * 100_000, 400, "parse_error"),
        ("patch", f"{JOBS}nothing/", '{"priority": 1e400}', 400, None),
        ("put", f"{JOBS}nothing/", "{}", 405, "method_not_allowed"),
        ("post", "/jobs/api/queues/nowhere/pause/", "", 404, "queue_unknown"),
        ("post", JOBS, '{"task": "\\ud800"}', 400, "request_invalid"),
    ],
)
def test_bad_request__is_refused_with_a_code(
    operator: Client, method: str, path: str, body: str, status: int, code: str | None
) -> None:
    answer = getattr(operator, method)(
        path, **({} if method == "get" else {"data": body, "content_type": "application/json"})
    )
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/json"
    assert code is None or answer.json()["code"] == code


def test_redis_away__is_503_at_once(operator: Client, queues: Queues) -> None:
    gone = recipes.rq_queues(f"redis://127.0.0.1:{embedded.free_port()}/0", queues=queues.names)
    with override_settings(RQ_QUEUES=gone):
        answers = [operator.get("/jobs/api/queues/"), operator.get(JOBS), post(operator, f"{JOBS}x/cancel/")]
        assert operator.get("/jobs/").status_code == 200, "the page says what the API says"
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "redis_unavailable")}
    assert answers[0]["Retry-After"] == "2"


def test_every_refusal__is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    for code, (status, _) in REFUSALS.items():
        assert f"`{code}` {status}" in page


def test_every_address__is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    addresses = re.sub(r"<str:job_id>", "<id>", " ".join(str(pattern.pattern) for pattern in urls.urlpatterns))
    assert {"api/queues/", "api/jobs/", "api/jobs/<id>/", "api/jobs/<id>/log/"} <= set(addresses.split())
    actions = [action for found in re.findall(r"action>([^)]*)", addresses) for action in found.split("|")]
    assert len(actions) == 8
    for address in [*(f"{action}/`" for action in actions), *re.findall(r"api/\S*/(?= |$)", addresses)]:
        assert address in page


# --- django-rq's own pages


def dashboard(name: str, *args: Any) -> str:
    return reverse(f"admin:django_rq_{name}", args=args)


def test_django_rq_in_the_admin__asks_for_permissions(queues: Queues) -> None:
    job_id = enqueue(queues)
    client = client_of(staff())
    pages = [dashboard("home"), dashboard("jobs", 0), dashboard("job_detail", 0, job_id), dashboard("home_json")]
    pages.append(reverse("admin:django_rq_dashboard_changelist"))
    assert {client.get(url).status_code for url in pages} == {403}
    assert {client.post(dashboard(name, 0)).status_code for name in ("clear", "requeue_all", "actions")} == {403}
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1
    assert b"django_rq" not in client.get("/admin/").content


def test_django_rq_for_who_may_look__cannot_be_posted_to(queues: Queues) -> None:
    enqueue(queues)
    client = client_of(staff("view_job"))
    assert client.get(dashboard("jobs", 0)).status_code == 200
    assert client.post(dashboard("clear", 0)).status_code == 403
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 1


def test_django_rq_for_who_may_act__works(operator: Client, queues: Queues) -> None:
    enqueue(queues)
    assert operator.get(reverse("admin:django_rq_dashboard_changelist")).status_code == 200
    assert b"django_rq" in operator.get("/admin/").content
    assert operator.post(dashboard("clear", 0), {"post": "yes"}).status_code == 302
    assert places.connection(queues.default).llen(places.queue_key(queues.default)) == 0


def test_django_rq__takes_no_token_in_the_path_and_sends_strangers_to_the_login(queues: Queues) -> None:
    assert Client().get(f"{dashboard('home')}stats.json/sometoken").status_code == 302
    assert Client().get(dashboard("home")).status_code == 302


@pytest.mark.urls("tests.jobs.urls_unprotected")
def test_django_rq_urls_included__is_warned_of() -> None:
    found = run_checks(tags=["stateless"], include_deployment_checks=True)
    assert [message.msg[:52] for message in found if message.id == "scaling_kit_jobs.W011"] == [
        "The URLconf includes django_rq.urls at 'inner/rq/': "
    ]


def test_protected_pages__are_not_warned_of() -> None:
    found = run_checks(tags=["stateless"], include_deployment_checks=True)
    assert "scaling_kit_jobs.W011" not in {message.id for message in found}


@modify_settings(INSTALLED_APPS={"remove": "scaling_kit"})
def test_page_without_the_hall__is_an_error() -> None:
    assert "scaling_kit_jobs.E012" in [found.id for found in run_checks()]
