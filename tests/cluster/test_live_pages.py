"""Run-time settings for the staff: the REST address, constance's page in the admin, the system checks."""

from collections.abc import Iterator
from typing import Any

import pytest
from constance import settings as constance_settings
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import include, path

from scaling_kit.cluster import checks, live_copy, live_store
from scaling_kit.cluster.live import live

urlpatterns = [path("", include("scaling_kit.cluster.urls")), path("admin/", admin.site.urls)]
URL = "/cluster/settings/"
ADMIN = "/admin/constance/config/"


@pytest.fixture(autouse=True)
def new_process(keys_of_one_test: str) -> Iterator[None]:
    live_copy.forget()
    with override_settings(ROOT_URLCONF=__name__):
        yield
    live_copy.forget()


@pytest.fixture
def root(transactional_db: None) -> Client:
    return signed_in(User.objects.create_superuser("root"))


@pytest.fixture
def staff(transactional_db: None) -> User:
    return User.objects.create_user("ada", is_staff=True)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def patch(client: Client, body: Any) -> Any:
    return client.patch(URL, body, content_type="application/json")


def permit(user: User, name: str) -> None:
    user.user_permissions.add(Permission.objects.get(codename=name))


def test_get__every_setting_and_the_history(root: Client) -> None:
    live.change("UPLOAD_MAX_MB", 5, by="grace")
    answer = root.get(URL).json()
    [upload] = [each for each in answer["settings"] if each["name"] == "UPLOAD_MAX_MB"]
    assert upload == {
        "name": "UPLOAD_MAX_MB",
        "value": 5,
        "default": 20,
        "type": "int",
        "help": "The largest file, in megabytes",
    }
    [change] = answer["history"]
    assert (change["old"], change["new"], change["by"]) == (20, 5, "grace")
    assert answer["may_change"] is True
    assert [each["name"] for each in root.get(URL, {"name": "BANNER"}).json()["settings"]] == ["BANNER"]


def test_patch__several_at_once_as_the_one_who_is_signed_in(root: Client) -> None:
    answer = patch(root, {"UPLOAD_MAX_MB": 5, "IS_OPEN": False, "SALE_BEGINS_AT": "2031-02-03T04:05:00"})
    assert answer.status_code == 200
    assert (live.UPLOAD_MAX_MB, live.IS_OPEN) == (5, False)
    assert {change["by"] for change in answer.json()["history"]} == {"root"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"NOTHING": 1}, "setting_unknown"),
        ({"UPLOAD_MAX_MB": "much", "BANNER": "x"}, "setting_invalid"),
        ({"UPLOAD_MAX_MB": True}, "setting_invalid"),
        ({"UPLOAD_MAX_MB": None}, "setting_invalid"),
        ({"UPLOAD_MAX_MB": [1]}, "setting_invalid"),
        ({"UPLOAD_MAX_MB": {}}, "setting_invalid"),
        ({"IS_OPEN": "perhaps"}, "setting_invalid"),
        ({"IS_OPEN": None}, "setting_invalid"),
        ({"BANNER": "x" * 70_000}, "setting_invalid"),
        ({"BANNER": {}}, "setting_invalid"),
        ({"BANNER": "\ud800"}, "setting_invalid"),
        ({"BANNER": "a\0b"}, "setting_invalid"),
        ({"RATE": "nan"}, "setting_invalid"),
        ({"RATE": 10**400}, "setting_invalid"),
        ({"SALE_BEGINS_AT": "never"}, "setting_invalid"),
        ({"SALE_BEGINS_AT": 5}, "setting_invalid"),
        ({}, "request_invalid"),
        ([], "request_invalid"),
        ('"x"', "request_invalid"),
    ],
)
def test_patch_what_cannot_be__400_and_nothing_is_changed(root: Client, body: Any, code: str) -> None:
    answer = patch(root, body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert live.BANNER == ""
    assert live_store.fetch_history() == []


def test_who_is_not_let_in(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Client().get(URL).status_code in (401, 403)
    client = signed_in(staff)
    assert client.get(URL).status_code == 403
    permit(staff, "view_config")
    assert client.get(URL).status_code == 403, "superusers only, as constance's page"
    with override_settings(CONSTANCE_SUPERUSER_ONLY=False):
        assert client.get(URL).json()["may_change"] is False
        assert patch(client, {"UPLOAD_MAX_MB": 5}).json()["code"] == "permission_denied"
        permit(staff, "change_config")
        assert patch(signed_in(staff), {"UPLOAD_MAX_MB": 5}).status_code == 200


def test_admin_page__changes_and_records_who(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constance_settings, "SUPERUSER_ONLY", False)  # constance reads it at import
    permit(staff, "view_config")
    client = signed_in(staff)
    form = client.get(ADMIN).context["form"]
    sent = {name: form[name].value() for name in ("version", "BANNER", "UPLOAD_MAX_MB", "RATE")}
    sent |= {"IS_OPEN": "on", "SALE_BEGINS_AT_0": "2029-12-31", "SALE_BEGINS_AT_1": "18:00:00", "BANNER": "Welcome"}
    client.post(ADMIN, sent)
    assert live.BANNER == "", "may only look"
    permit(staff, "change_config")
    client = signed_in(staff)
    assert client.post(ADMIN, sent).status_code == 302
    assert live.BANNER == "Welcome"
    [change] = live_store.fetch_history()
    assert (change["name"], change["by"]) == ("BANNER", "ada")
    assert client.post(ADMIN, sent).status_code == 200, "somebody else has changed it since the page was loaded"


def test_admin_history__to_read_only(root: Client) -> None:
    live.change("BANNER", "Welcome", by="grace")
    page = root.get("/admin/scaling_kit_cluster/livechange/")
    assert "grace" in page.content.decode()
    assert root.get("/admin/scaling_kit_cluster/livechange/add/").status_code == 403


def ids() -> list[str]:
    return [str(found.id) for found in checks.check_live()]


def test_as_it_should_be__nothing_to_say() -> None:
    assert ids() == []


def test_constance_not_installed__e010_if_settings_are_declared(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "constance"]
    [found] = checks.check_live()
    assert (found.id, found.hint) == ("scaling_kit_cluster.E010", 'Add "constance" to INSTALLED_APPS.')
    del settings.CONSTANCE_CONFIG
    assert ids() == []


@override_settings(CONSTANCE_BACKEND="constance.backends.redisd.RedisBackend")
def test_other_backend__e011() -> None:
    assert ids() == ["scaling_kit_cluster.E011"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"N": ("x", "help", int)}, "['N'] has the default 'x', and is of type int."),
        ({"N": (True, "help", int)}, "['N'] has the default True, and is of type int."),
        ({"N": 5}, "['N'] is 5."),
        ({"N": (5,)}, "['N'] is (5,)."),
        ({"N": ([], "help")}, "['N'] is of type list."),
        ({"N": (5, "help", "unknown_field")}, "['N'] is of type unknown_field."),
        ({"N": (5, "help", ["a"])}, "['N'] is of type ['a']."),
        ({"two words": (5, "help")}, "['two words'] cannot be read"),
        ({"change": (5, "help")}, "['change'] cannot be read"),
        ([("N", 5)], "is [('N', 5)]."),
    ],
)
def test_wrong_entry__e012(declared: Any, said: str) -> None:
    with override_settings(CONSTANCE_CONFIG=declared):
        [found] = checks.check_live()
    assert found.id == "scaling_kit_cluster.E012"
    assert said in found.msg
    assert found.hint
