import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import schedule, status, stored
from scaling_kit.scheduler.admin import ScheduleForm
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.run_now import run_now
from tests.scheduler.queue import Task, waiting

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.scheduler.urls")]

TIDY = "tests.scheduler.tasks.tidy"
LIST = "admin:scaling_kit_scheduler_storedschedule_changelist"
ADD = "admin:scaling_kit_scheduler_storedschedule_add"
CHANGE = "admin:scaling_kit_scheduler_storedschedule_change"


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_declared", [])
    monkeypatch.setattr(stored, "_table", stored.Table())
    schedule.add("sweep", Task(), "30 2 * * *", tz="Europe/Paris")
    schedule.add("poll", Task(), seconds=30, enabled=False)


def a_client(*permissions: str) -> Client:
    """Of a superuser, or of somebody who may do so much."""
    user = User.objects.create_user("somebody", is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    found = Client()
    found.force_login(user)
    return found


def fields(**given: Any) -> dict[str, Any]:
    return dict.fromkeys(ScheduleForm.Meta.fields, "") | given


def url_of(name: str) -> str:
    return reverse(CHANGE, args=[StoredSchedule.objects.get(name=name).pk])


def text(response: Any) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, "the form is shown again"
    return {name: list(map(str, said)) for name, said in response.context["adminform"].form.errors.items()}


# --- the list


def test_list__has_the_declared_ones_without_anybody_having_stored_them() -> None:
    shown = text(a_client().get(reverse(LIST)))
    assert "30 2 * * * Europe/Paris" in shown
    assert "every 30 s" in shown
    assert "Nobody leads" in shown
    assert set(StoredSchedule.objects.values_list("name", "enabled")) == {("sweep", None), ("poll", None)}


def test_list__names_the_leader_and_links_last_runs_to_the_page_of_the_jobs() -> None:
    Lease(status.LEASE, client=client(Purpose.SCRIPT), owner="host:42").hold()
    job_id = run_now("sweep")
    response = a_client().get(reverse(LIST))
    assert "host:42 leads" in text(response)
    assert f'<a href="/jobs/#job={job_id}">' in response.content.decode()
    assert "queued" in text(response)


@pytest.mark.urls("tests.scheduler.urls_without_jobs")
def test_page_of_the_jobs_not_included__nothing_links_to_it() -> None:
    job_id = run_now("sweep")
    browser = a_client()
    assert "/jobs/" not in browser.get(reverse(LIST)).content.decode()
    assert job_id in text(browser.get(url_of("sweep")))


def test_redis_away__the_list_is_shown_without_runs(settings: Any) -> None:
    settings.SCALING_KIT_SCHEDULER_REDIS_URL = "redis://127.0.0.1:1/0"
    browser = a_client()
    shown = text(browser.get(reverse(LIST)))
    assert "Redis does not answer, so that no runs are shown" in shown
    assert "sweep" in shown
    assert "Redis does not answer" in text(browser.get(url_of("sweep")))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=enabled", {"sweep", "report"}),
        ("state=disabled", {"poll"}),
        ("state=unfit", {"gone"}),
        ("origin=declared", {"sweep", "poll"}),
        ("origin=stored", {"report"}),
        ("origin=gone", {"gone"}),
        ("q=tasks.tidy", {"report"}),
    ],
)
def test_filters(query: str, names: set[str]) -> None:
    StoredSchedule.objects.create(name="report", task=TIDY, seconds=1)
    StoredSchedule.objects.create(name="gone")
    response = a_client().get(f"{reverse(LIST)}?{query}")
    assert {row.name for row in response.context["cl"].result_list} == names


def test_declaration_gone__is_shown_as_such() -> None:
    StoredSchedule.objects.create(name="formerly", expression="@daily")
    browser = a_client()
    assert "gone, does not run" in text(browser.get(reverse(LIST)))
    said = "not declared in the code any more. Does not run: its declaration is gone from the code"
    assert said in text(browser.get(url_of("formerly")))


# --- the form


def test_add__and_it_runs_so() -> None:
    given = fields(name="report", task=TIDY, enabled="True", expression="@daily", args="[3]", kwargs='{"to": "all"}')
    assert a_client().post(reverse(ADD), given).status_code == 302
    one = stored.find("report")
    assert (str(one.timetable), one.args, one.kwargs, one.enabled) == ("@daily", [3], {"to": "all"}, True)


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"expression": "61 * * * *"}, "expression", "minute: '61' is not allowed; 0-59"),
        ({}, "expression", "give an expression or seconds"),
        ({"expression": "@daily", "seconds": "5"}, "seconds", "not both"),
        ({"seconds": "0"}, "seconds", "must be a whole number of at least 1"),
        ({"seconds": "5", "tz": "Europe/Paris"}, "tz", "in whatever time zone"),
        ({"expression": "@daily", "tz": "Mars/Olympus"}, "tz", "'Mars/Olympus' is not a time zone"),
        ({"seconds": "5", "task": ""}, "task", "required"),
        ({"seconds": "5", "task": "os.system"}, "task", "in no installed app"),
        ({"seconds": "5", "task": "tests.scheduler.tasks.absent"}, "task", "cannot be imported"),
        ({"seconds": "5", "args": "[1"}, "args", "Enter a valid JSON"),
        ({"seconds": "5", "args": "[1, 2]"}, "args", "too many positional arguments"),
        ({"seconds": "5", "kwargs": '{"too": 1}'}, "kwargs", "unexpected keyword argument 'too'"),
        ({"seconds": "5", "task": "tests.scheduler.tasks.sweep"}, "args", "missing a required argument: 'depth'"),
        ({"seconds": "5", "grace_seconds": "0"}, "grace_seconds", "is not above 0"),
        ({"seconds": "5", "name": "po.ll"}, "", ""),
        ({"seconds": "5", "name": "poll"}, "name", "is declared in the code"),
        ({"seconds": "5", "name": "re_po.rt"}, "name", "differs from 're_po-rt' only in punctuation"),
        ({"seconds": "5", "name": "poll-now"}, "name", "ends like the jobs that are run by hand"),
    ],
)
def test_form__refuses_with_field_and_reason(given: dict[str, Any], field: str, reason: str) -> None:
    StoredSchedule.objects.create(name="re_po-rt", task=TIDY, seconds=1)
    response = a_client().post(reverse(ADD), fields(**{"name": "report", "task": TIDY, "enabled": "True", **given}))
    if not field:
        assert response.status_code == 302
        return
    said = errors(response)
    assert list(said) == [field]
    assert reason in said[field][0]


def test_declared__its_name_and_task_cannot_be_changed_here() -> None:
    stored.sync()
    assert a_client().post(url_of("sweep"), fields(name="other", task=TIDY, expression="@daily")).status_code == 302
    row = StoredSchedule.objects.get(name="sweep")
    assert (row.task, row.enabled, row.expression) == ("", None, "@daily")
    assert str(stored.find("sweep").timetable) == "@daily Europe/Paris"


def test_declared__a_mistake_is_refused_at_its_field() -> None:
    stored.sync()
    browser = a_client()
    assert list(errors(browser.post(url_of("sweep"), fields(expression="* * * * * * *")))) == ["expression"]
    assert list(errors(browser.post(url_of("poll"), fields(tz="Europe/Paris")))) == ["tz"]


def test_declared__deleted_here_is_as_declared_again() -> None:
    StoredSchedule.objects.create(name="sweep", enabled=False)
    delete = url_of("sweep").replace("change", "delete")
    assert a_client().post(delete, {"post": "yes"}).status_code == 302
    assert stored.find("sweep").enabled


# --- the page of a schedule


def test_page__shows_the_next_ten_runs_in_its_zone_and_utc() -> None:
    stored.sync()
    shown = text(a_client().get(url_of("sweep")))
    assert len(re.findall(r"\d{4}-\d\d-\d\d 02:30:00 CES?T +\d{4}-\d\d-\d\d 0[01]:30:00Z", shown)) == 10
    assert "At 02:30 every day (Europe/Paris)" in shown


def test_page__shows_the_history_with_the_state_of_each_job() -> None:
    stored.sync()
    job_id = run_now("sweep")
    response = a_client().get(url_of("sweep"))
    assert f'<a href="/jobs/#job={job_id}">{job_id}</a>' in response.content.decode()
    assert re.search(rf"{job_id} +queued +by hand", text(response))


def test_what_somebody_wrote__is_shown_as_text() -> None:
    StoredSchedule.objects.create(name="<script>", task=TIDY, expression="<script>")
    browser = a_client()
    for page in (reverse(LIST), url_of("<script>")):
        assert "<script>'" not in (shown := browser.get(page).content.decode())
        assert "&lt;script&gt;" in shown


# --- actions and permissions


def act(browser: Client, action: str, *names: str) -> Any:
    chosen = StoredSchedule.objects.filter(name__in=names).values_list("pk", flat=True)
    return browser.post(reverse(LIST), {"action": action, "_selected_action": list(chosen)}, follow=True)


def test_enable_and_disable(django_capture_on_commit_callbacks: Any) -> None:
    stored.sync()
    browser, redis = a_client(), client(Purpose.SCRIPT)
    before = redis.get(stored.revision_key())
    with django_capture_on_commit_callbacks(execute=True):
        act(browser, "disable", "sweep")
    assert not stored.find("sweep").enabled
    assert redis.get(stored.revision_key()) != before
    act(browser, "enable", "sweep", "poll")
    assert stored.find("sweep").enabled
    assert stored.find("poll").enabled
    assert LogEntry.objects.filter(change_message__in=["Enabled.", "Disabled."]).count() == 3


def test_run_now__says_which_job_it_became() -> None:
    stored.sync()
    response = act(a_client(), "run_now", "sweep")
    [job_id] = waiting()
    assert f'Enqueued: sweep as <a href="/jobs/#job={job_id}">{job_id}</a>' in response.content.decode()
    assert LogEntry.objects.get().change_message == f"Run by hand: {job_id}"


def test_run_now__of_one_that_cannot_run_says_why() -> None:
    StoredSchedule.objects.create(name="gone")
    assert "Not enqueued: gone. Schedule &#x27;gone&#x27; cannot run" in text(act(a_client(), "run_now", "gone"))


def test_view_permission__is_not_enough_to_change_or_run() -> None:
    stored.sync()
    browser = a_client("view_storedschedule")
    assert "sweep" in text(browser.get(reverse(LIST)))
    assert "2" in text(browser.get(url_of("sweep")))
    act(browser, "run_now", "sweep")
    act(browser, "disable", "sweep")
    assert browser.post(url_of("sweep"), fields(expression="@daily")).status_code == 403
    assert browser.post(reverse(ADD), fields()).status_code == 403
    assert waiting() == []
    assert StoredSchedule.objects.get(name="sweep").enabled is None


def test_no_permission__sees_nothing() -> None:
    assert a_client("view_user").get(reverse(LIST)).status_code == 403
