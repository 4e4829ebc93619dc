"""The page, its REST API and the admin action: who may do what, and what is answered to everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.checks import run_checks
from django.test import Client, modify_settings, override_settings
from django.urls import include, path

from scaling_kit.cache import status, tags
from scaling_kit.cache.admin import MOST_INSTANCES, invalidate_selected
from scaling_kit.cache.refusals import REFUSALS
from scaling_kit.tokens import grants
from tests.cache import stock
from tests.cache.stock import LIST, TOTALS
from tests.library.models import Author, Book

pytestmark = pytest.mark.django_db

STATUS, DROP = "/cache/api/status/", "/cache/api/drop/"
NOWHERE = "redis://127.0.0.1:1/0"


class BookAdmin(admin.ModelAdmin):
    actions = [invalidate_selected]


site = admin.AdminSite(name="own")
site.register(Book, BookAdmin)
urlpatterns = [
    path("cache/", include("scaling_kit.cache.urls")),
    path("admin/", admin.site.urls),
    path("own-admin/", site.urls),
]


@pytest.fixture(autouse=True)
def page_urls(cache_settings: None, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.cache.test_page"


def staff(*codenames: str) -> User:
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return client_of(staff("view_entry", "change_entry"))


def post(client: Client, body: Any, **extra: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post(DROP, text, content_type="application/json", **extra)


def current() -> dict[str, int]:
    return {view["view"]: view["current"] for view in status.snapshot(seconds=5)["views"]}


# --- who


def test_permissions__can_be_given() -> None:
    found = Permission.objects.filter(content_type__app_label="scaling_kit_cache", content_type__model="entry")
    assert set(found.values_list("codename", flat=True)) == {"view_entry", "change_entry"}


@pytest.mark.parametrize("codenames", [(), ("view_entry",), ("change_entry",)])
def test_staff__may_what_they_were_given(codenames: tuple[str, ...]) -> None:
    client = client_of(staff(*codenames))
    looks = client.get("/cache/").status_code, client.get(STATUS).status_code
    assert looks == ((200, 200) if codenames else (403, 403))
    answer = post(client, {"everything": True})
    assert answer.status_code == (200 if codenames == ("change_entry",) else 403)


def test_permissions_without_being_staff__are_not_enough() -> None:
    user = staff("view_entry", "change_entry")
    user.is_staff = False
    user.save()
    assert client_of(user).get(STATUS).status_code == 403


def test_page__offers_to_forget_to_those_who_may() -> None:
    user = staff("view_entry")
    assert b'id="drop"' not in client_of(user).get("/cache/").content
    user.user_permissions.add(Permission.objects.get(codename="change_entry"))
    content = client_of(user).get("/cache/").content
    assert b'id="drop"' in content
    assert b'<option value="library.Book">' in content


def test_nobody__is_sent_to_the_login_or_refused() -> None:
    page = Client().get("/cache/")
    assert (page.status_code, page["Location"]) == (302, "/admin/login/?next=/cache/")
    answer = Client().get(STATUS)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_bearer_of_a_token__may_what_the_projects_authentication_says() -> None:
    token = grants.begin(User.objects.create_superuser("root")).access
    assert Client().get(STATUS, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_session_without_csrf_token__cannot_drop() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff("change_entry"))
    assert post(client, {"everything": True}).status_code == 403
    client.get("/cache/")
    token = client.cookies["csrftoken"].value
    assert post(client, {"everything": True}, headers={"X-CSRFToken": token}).status_code == 200


# --- look and drop


def test_status__is_the_snapshot_and_is_kept_by_nobody(operator: Client) -> None:
    stock.count(LIST, hit=3)
    answer = operator.get(STATUS)
    assert answer["Cache-Control"] == "no-store"
    assert LIST in [view["view"] for view in answer.json()["views"]]


@pytest.mark.parametrize(
    ("body", "dropped", "left"),
    [
        ({"model": "library.book"}, "library.book", {LIST: 0, TOTALS: 1}),
        ({"name": "weather"}, "weather", {LIST: 1, TOTALS: 0}),
        ({"view": LIST}, LIST, {LIST: 0, TOTALS: 1}),
        ({"everything": True}, "everything", {LIST: 0, TOTALS: 0}),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_drop__takes_what_was_named(operator: Client, body: dict[str, Any], dropped: str, left: dict[str, int]) -> None:
    stock.put(LIST, Book)
    stock.put(TOTALS, "weather")
    answer = post(operator, body)
    assert (answer.status_code, answer.json()["dropped"]) == (200, dropped)
    assert current() == left


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "request_invalid"),
        ({"model": "library.Book", "name": "x"}, "request_invalid"),
        ({"everything": False}, "request_invalid"),
        ({"everything": "perhaps"}, "request_invalid"),
        ({"name": ""}, "request_invalid"),
        ({"name": "\ud800"}, "request_invalid"),
        ({"name": "\x00"}, "request_invalid"),
        ({"name": ["x"]}, "request_invalid"),
        ({"name": "x" * 501}, "request_invalid"),
        ([], "request_invalid"),
        ("nonsense", "parse_error"),
        ("[" * 100_000, "parse_error"),
        ({"model": "library.Bok"}, "model_unknown"),
        ({"model": "\ud800"}, "request_invalid"),
        ({"view": "\ud800"}, "request_invalid"),
        ({"view": "shop.views.Nothing.get"}, "view_unknown"),
    ],
)
def test_bad_body__is_refused_with_a_code(operator: Client, body: Any, code: str) -> None:
    answer = post(operator, body)
    assert (answer.json()["code"], answer.status_code) == (code, REFUSALS.get(code, (400,))[0])


def test_unknown_model__is_told_the_nearest(operator: Client) -> None:
    assert post(operator, {"model": "library.Bok"}).json()["detail"].endswith("Did you mean library.Book?")


@pytest.mark.parametrize("name", ["SCALING_KIT_CACHE_REDIS_URL", "SCALING_KIT_REDIS_URL"])
def test_redis_away__is_said(operator: Client, settings: Any, name: str) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    with override_settings(**{name: NOWHERE}):
        answers = [operator.get(STATUS), post(operator, {"everything": True})]
        assert operator.get("/cache/").status_code == 200
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "redis_unavailable")}


# --- the admin


def admin_client() -> Client:
    return client_of(User.objects.create_superuser("root"))


def act(client: Client, *books: Book) -> Any:
    data = {"action": "invalidate_selected", "_selected_action": [book.pk for book in books]}
    return client.post("/own-admin/library/book/", data)


@pytest.fixture
def book(transactional_db: None) -> Book:
    return Book.objects.create(title="Solaris", author=Author.objects.create(name="Stanislaw"))


def test_admin_action__forgets_what_depends_on_them(book: Book) -> None:
    client = admin_client()
    stock.put(LIST, Book)
    stock.put(TOTALS, Author)
    act(client, book)
    assert current() == {LIST: 0, TOTALS: 1}


def test_admin_action__is_for_those_who_may_change_them(book: Book) -> None:
    user = staff("view_book")
    stock.put(LIST, Book)
    act(client_of(user), book)
    assert current() == {LIST: 1}
    user.user_permissions.add(Permission.objects.get(codename="change_book"))
    act(client_of(user), book)
    assert current() == {LIST: 0}


def test_admin_action_on_many__names_the_model(book: Book) -> None:
    client = admin_client()
    Book.objects.bulk_create(Book(title=str(number), author=book.author) for number in range(MOST_INSTANCES + 1))
    stock.put(LIST, Book)
    data = {"action": "invalidate_selected", "select_across": "1", "_selected_action": [book.pk]}
    assert client.post("/own-admin/library/book/", data).status_code == 302
    assert current() == {LIST: 0}


# --- the checks


@modify_settings(INSTALLED_APPS={"remove": "scaling_kit"})
def test_page_without_the_hall__is_an_error() -> None:
    assert "scaling_kit_cache.E008" in [found.id for found in run_checks()]


def test_tag_of_a_view__is_none_of_a_table_or_name() -> None:
    assert not {tags.of_view("x")} & (tags.of("x", Book))
