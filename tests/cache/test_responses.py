"""What HTTP says about caching, and the ways in which caches have handed out what they should not."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings
from django.utils import translation
from rest_framework.test import APIClient

from scaling_kit.cache import cached_response, invalidate
from scaling_kit.tokens.users import TokenUser
from tests.cache.conftest import Library
from tests.cache.views import Hooks, no_rest_framework


def client_of(name: str) -> APIClient:
    client = APIClient()
    client.force_authenticate(User.objects.get_or_create(username=name)[0])
    return client


@pytest.mark.django_db(transaction=True)
def test_second_user__never_gets_the_first_ones_body() -> None:
    ada, bob = client_of("ada"), client_of("bob")
    for _ in range(2):
        assert ada.get("/whoami/").json()["user"] == "ada"
        assert bob.get("/whoami/").json()["user"] == "bob"
        assert APIClient().get("/whoami/").json()["user"] == ""
    assert ada.get("/whoami/")["X-Cache"] == "hit"


@pytest.mark.django_db(transaction=True)
def test_user_renamed__the_new_name_at_once() -> None:
    client_of("ada").get("/whoami/")
    User.objects.filter(username="ada").update(username="lovelace")
    assert client_of("lovelace").get("/whoami/").json()["user"] == "lovelace"


@pytest.mark.django_db(transaction=True)
def test_claims_of_the_token_changed__another_entry() -> None:
    def status(**claims: Any) -> str:
        client = APIClient()
        client.force_authenticate(User.objects.get_or_create(username="ada")[0], SimpleNamespace(payload=claims))
        return str(client.get("/whoami/")["X-Cache"])

    status(role="admin", jti=1)
    assert [status(role="admin", jti=2), status(role="guest", jti=3)] == ["hit", "miss"]


@pytest.mark.django_db(transaction=True)
def test_token_of_this_kit_says_another_name__another_entry() -> None:
    def name_said(**claims: Any) -> str:
        client = APIClient()
        client.force_authenticate(TokenUser(pk=1, **claims), SimpleNamespace(claims=claims))  # type: ignore[arg-type]
        return str(client.get("/whoami/").json()["user"])

    assert [name_said(username="ada"), name_said(username="lovelace")] == ["ada", "lovelace"]


@pytest.mark.parametrize("prefix", ["own", "own-of-tenant"])
def test_object_of_another__forbidden_although_cached(library: Library, prefix: str) -> None:
    owner, other = client_of("Ursula"), client_of("Stanislaw")
    path = f"/{prefix}/{library.book.pk}/"
    assert [owner.get(path).status_code for _ in range(2)] == [200, 200]
    assert owner.get(path)["X-Cache"] == "hit"
    assert other.get(path).status_code == 403
    library.book.author = library.other_author
    library.book.save()
    assert (owner.get(path).status_code, other.get(path).status_code) == (403, 200)


@pytest.mark.django_db(transaction=True)
def test_permission__asked_on_every_hit() -> None:
    admin = client_of("admin")
    User.objects.update(is_staff=True)
    admin.force_authenticate(User.objects.get())
    assert [admin.get("/forbidden/").status_code for _ in range(2)] == [200, 200]
    assert admin.get("/forbidden/")["X-Cache"] == "hit"
    assert client_of("someone").get("/forbidden/").status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("cookie", 200, "cookie"),
        ("private", 200, "cache-control"),
        ("no-store", 200, "cache-control"),
        ("vary", 200, "vary"),
        ("unavailable", 503, "status"),
        ("streaming", 200, "streaming"),
        ("large", 200, "size"),
        ("session", 200, "session"),
        ("session read", 200, "session"),
        ("cookie read", 200, "cookie"),
        ("csrf", 200, "csrf"),
    ],
)
def test_response_that_is_not_for_everyone__computed_each_time(kind: str, status: int, reason: str) -> None:
    for computed in (1, 2):
        response: Any = APIClient().get(f"/peculiar/{kind}/")
        assert (response.status_code, response["X-Cache"]) == (status, f"bypass;{reason}")
        assert Hooks.computed == computed


@pytest.mark.django_db(transaction=True)
def test_csrf_token_made_by_the_renderer__not_stored() -> None:
    assert [APIClient().get("/form/")["X-Cache"] for _ in range(2)] == ["bypass;csrf"] * 2


@pytest.mark.django_db(transaction=True)
def test_raised__answered_as_ever_and_not_stored() -> None:
    assert [APIClient().get("/peculiar/missing/").status_code for _ in range(2)] == [404, 404]
    assert Hooks.computed == 2


@pytest.mark.django_db(transaction=True)
def test_view_that_writes__not_out_of_date_afterwards() -> None:
    assert [APIClient().get("/peculiar/writing/").json() for _ in range(3)] == [1, 2, 3]


def test_if_none_match__304_without_a_body(library: Library) -> None:
    first = library.fetch()
    again = library.fetch(**{"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    library.book.title = "Changed"
    library.book.save()
    changed = library.fetch(**{"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]


def test_invalidated_for_nothing__same_etag(library: Library) -> None:
    first = library.fetch()
    invalidate("name nobody uses", library.book)
    again = library.fetch(**{"If-None-Match": first["ETag"]})
    assert (again["X-Cache"], again.status_code) == ("miss", 304)


def test_headers__the_same_on_hit_and_miss(library: Library) -> None:
    miss, hit = library.fetch("/plain/"), library.fetch("/plain/")
    assert (miss["X-Cache"], hit["X-Cache"]) == ("miss", "hit")
    assert {**miss.headers, "X-Cache": ""} == {**hit.headers, "X-Cache": ""}
    assert hit["X-Total"] == "1"
    assert hit["Cache-Control"] == "private, no-cache"
    assert hit["Content-Type"] == "text/plain"


@pytest.mark.django_db(transaction=True)
def test_vary_by_user__proxies_are_told() -> None:
    assert {"Authorization", "Cookie"} <= set(client_of("ada").get("/whoami/")["Vary"].split(", "))


def test_head__shares_with_get(library: Library) -> None:
    library.warm_up()
    head: Any = library.client.head("/books/")
    assert (head["X-Cache"], head.content) == ("hit", b"")


def test_client_says_no_cache__served_from_the_cache_all_the_same(library: Library) -> None:
    library.warm_up()
    assert library.fetch(**{"Cache-Control": "no-cache"})["X-Cache"] == "hit"


def test_parameters__order_and_unknown_ones_do_not_matter(library: Library) -> None:
    assert library.fetch("/books/search/?q=Disp&x=1").json() == ["The Dispossessed"]
    assert library.fetch("/books/search/?utm=2&q=Disp")["X-Cache"] == "hit"
    assert library.fetch("/books/search/?q=Other").json() == []


def test_parameters__all_matter_unless_said(library: Library) -> None:
    library.fetch("/books/?a=1&b=2")
    assert library.fetch("/books/?b=2&a=1")["X-Cache"] == "hit"
    assert library.fetch("/books/?a=1")["X-Cache"] == "miss"
    assert library.fetch("/books/?a=" + 3000 * "1")["X-Cache"] == "bypass;query"


@pytest.mark.parametrize(
    "other",
    [{"headers": {"host": "localhost"}}, {"secure": True}, {"headers": {"accept-language": "de"}}],
    ids=["host", "scheme", "language"],
)
def test_other_circumstances__another_entry(library: Library, other: dict[str, Any]) -> None:
    library.warm_up()
    with translation.override(other.get("headers", {}).get("accept-language", "en-us")):
        response: Any = library.client.get("/books/", **other)
    assert response["X-Cache"] == "miss"


def test_other_release__another_entry(library: Library) -> None:
    library.warm_up()
    with override_settings(SCALING_KIT_RELEASE="next"):
        assert library.fetch()["X-Cache"] == "miss"


def test_browsable_page__never_stored(library: Library) -> None:
    assert library.fetch("/books/", accept="text/html")["X-Cache"] == "bypass;renderer"


@pytest.mark.django_db(transaction=True)
def test_vary_function__shared_by_those_with_its_value() -> None:
    def fetch(**headers: str) -> Any:
        return APIClient().get("/tenanted/", headers=headers)

    assert [fetch(**{"X-Tenant": "a"})["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert fetch(**{"X-Tenant": "b"}).json() == "b"
    assert fetch()["X-Cache"] == "bypass;vary"


@pytest.mark.django_db(transaction=True)
def test_named_dependency__invalidated_by_name() -> None:
    assert [APIClient().get("/weather/").json() for _ in range(2)] == [1, 1]
    invalidate("weather")
    assert APIClient().get("/weather/").json() == 2
    assert APIClient().post("/weather/").json() == 3, "only GET and HEAD"


def test_get_with_a_body__never_stored(library: Library) -> None:
    response: Any = library.client.generic("GET", "/books/", b"{}", content_type="application/json")
    assert response["X-Cache"] == "bypass;body"


def test_action_decorated_in_a_cached_viewset__keeps_its_own_policy(library: Library) -> None:
    assert [library.fetch("/brief/")["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert [library.fetch(f"/brief/{library.book.pk}/")["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert Hooks.computed == 1


def test_header_off__not_sent(library: Library) -> None:
    with override_settings(SCALING_KIT_CACHE_HEADER=False):
        assert "X-Cache" not in library.fetch().headers


def test_not_a_rest_framework_view__says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match="no_rest_framework"):
        no_rest_framework(RequestFactory().get("/"))


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"vary": "everyone"}])
def test_wrong_arguments__said_at_import(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"timeout=0|vary='everyone'"):
        cached_response(**arguments)


@pytest.mark.django_db
def test_inside_testcase__what_a_test_wrote_is_never_cached() -> None:
    User.objects.create(username="ada")
    assert APIClient().get("/whoami/")["X-Cache"] == "bypass;transaction"
