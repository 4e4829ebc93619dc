"""Everything of REST framework that stands before, around or inside a cached view still does its work."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, override_settings
from rest_framework import generics, viewsets
from rest_framework.test import APIClient

from scaling_kit.cache import CachedViewSetMixin, audience, cached_response
from tests.cache.conftest import Library
from tests.cache.views import Hooks
from tests.library.models import Author, Book


@pytest.fixture(autouse=True)
def urls(settings: Any, cache_settings: None) -> None:
    settings.ROOT_URLCONF = "tests.cache.rest"


def client_of(user: Any, auth: Any = None) -> APIClient:
    client = APIClient()
    client.force_authenticate(user, auth)
    return client


@pytest.mark.parametrize(
    "query",
    ["", "limit=1&offset=1", "offset=1&limit=1", "search=Lathe", "ordering=-title&limit=5", "x=1&limit=1", "a&&b="],
)
def test_pages_filters_and_links__as_without_the_cache(library: Library, query: str) -> None:
    Book.objects.create(title="The Lathe of Heaven", author=library.author)
    right = library.fetch(f"/plain/?{query}").content.replace(b"/plain/", b"/shelf/")
    assert [library.fetch(f"/shelf/?{query}").content for _ in range(2)] == [right] * 2
    assert library.fetch(f"/shelf/?{query}")["X-Cache"] == "hit"


def test_cursor__leads_through_all_pages(library: Library) -> None:
    Book.objects.create(title="The Lathe of Heaven", author=library.author)
    for _ in range(2):
        url, titles = "/cursor/", []
        while url:
            page = library.fetch(url).json()
            titles += [book["title"] for book in page["results"]]
            url = page["next"]
        assert titles == ["The Dispossessed", "The Lathe of Heaven"]
    assert library.fetch("/cursor/")["X-Cache"] == "hit"


def test_nested__each_parent_has_its_own(library: Library) -> None:
    paths = [f"/authors/{author.pk}/books/" for author in (library.author, library.other_author)]
    assert [library.fetch(path).json()["count"] for path in paths * 2] == [1, 0, 1, 0]


@pytest.mark.django_db(transaction=True)
def test_throttle__a_hit_counts_and_the_throttled_get_no_hit() -> None:
    cache.clear()
    client = client_of(User.objects.create(username="ada"))
    assert [client.get("/throttled/").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.django_db(transaction=True)
def test_not_logged_in__401_although_cached() -> None:
    assert client_of(User.objects.create(username="ada")).get("/members-only/").status_code == 200
    assert APIClient().get("/members-only/").status_code == 401


def test_decorated_from_outside__cached(library: Library) -> None:
    assert [library.fetch("/decorated/")["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    with pytest.raises(ImproperlyConfigured, match="not called with a request of REST framework"):
        library.fetch("/decorated-too-far-out/")


def test_calls_a_cached_handler__has_an_entry_of_its_own(library: Library) -> None:
    for _ in range(2):
        assert library.fetch("/outer/").json()["inner"][0]["title"] == "The Dispossessed"
    library.book.delete()
    assert library.fetch("/outer/").json() == {"inner": []}


def test_parameters_not_listed__the_view_does_not_see_them(library: Library) -> None:
    assert library.fetch("/versioned/?secret=1").json() == [None, {}]
    assert library.fetch("/versioned/?version=2").json() == ["2", {"version": "2"}], "links lead on with it"
    assert library.fetch("/versioned/?secret=2")["X-Cache"] == "hit"


def test_head_first__stores_what_get_answers(library: Library) -> None:
    head: Any = library.client.head("/by-method/")
    get = library.fetch("/by-method/")
    assert (head["X-Cache"], head.content) == ("miss", b"")
    assert (get["X-Cache"], get.json(), get["ETag"]) == ("hit", "GET", head["ETag"])


@pytest.mark.parametrize("value", ["*", '"other", {etag}', "W/{etag}", "{etag}"])
def test_if_none_match__any_form(library: Library, value: str) -> None:
    etag = library.fetch("/dated/")["ETag"]
    again = library.fetch("/dated/", **{"If-None-Match": value.format(etag=etag)})
    assert (again.status_code, again["X-Cache"]) == (304, "hit")
    assert {"Cache-Control", "Content-Location", "ETag", "Vary"} <= set(again.headers)


def test_if_none_match__decides_before_the_date(library: Library) -> None:
    conditions = {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert library.fetch("/dated/", **conditions).status_code == 200
    assert library.fetch("/dated/", **{"If-Modified-Since": conditions["If-Modified-Since"]}).status_code == 304
    assert library.fetch("/dated/", **{"If-Match": '"other"'}).status_code == 412


def test_only_a_header_changed__another_etag(library: Library) -> None:
    etag = library.fetch("/dated/")["ETag"]
    Author.objects.create(name="Joanna")
    changed = library.fetch("/dated/", **{"If-None-Match": etag})
    assert (changed.status_code, changed["X-Total"]) == (200, "3"), "a 304 would not have brought it"


def test_compressed__the_weak_etag_is_recognised(library: Library, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", "django.middleware.http.ConditionalGetMiddleware"]
    Book.objects.create(title="L" * 200, author=library.author)
    first = library.fetch("/decorated/", **{"Accept-Encoding": "gzip"})
    assert (first["Content-Encoding"], first["ETag"][:2]) == ("gzip", "W/")
    assert (
        library.fetch("/decorated/", **{"Accept-Encoding": "gzip", "If-None-Match": first["ETag"]}).status_code == 304
    )
    assert library.fetch("/decorated/").json()[1]["title"] == "L" * 200, "stored as the view has answered"


def test_range__answered_in_full(library: Library) -> None:
    whole = library.fetch("/shelf/")
    part = library.fetch("/shelf/", Range="bytes=0-1")
    assert (part.status_code, part.content, part["X-Cache"]) == (200, whole.content, "hit")


def test_empty_answer__no_content_type_on_a_hit_either(library: Library) -> None:
    miss, hit = library.fetch("/empty/"), library.fetch("/empty/")
    assert hit["X-Cache"] == "hit"
    assert {**miss.headers, "X-Cache": ""} == {**hit.headers, "X-Cache": ""}


def test_data__there_on_a_hit(library: Library) -> None:
    miss: Any = library.fetch("/decorated/")
    hit: Any = library.fetch("/decorated/")
    assert (hit["X-Cache"], hit.data) == ("hit", miss.json())


def test_options__never_cached(library: Library) -> None:
    response: Any = library.client.options("/decorated/")
    assert "X-Cache" not in response.headers
    assert response.json()["name"] == "Decorated"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("user", [AnonymousUser(), None], ids=["nobody", "somebody"])
def test_other_key_of_the_same_user__another_entry(user: Any) -> None:
    user = user or User.objects.create(username="ada")
    assert [client_of(user, key).get("/by-key/").json() for key in ("one", "two")] == ["one", "two"]
    assert client_of(user, "one").get("/by-key/")["X-Cache"] == "hit"
    assert client_of(user, Group(name="a model")).get("/by-key/")["X-Cache"] == "miss"
    assert client_of(user, object()).get("/by-key/")["X-Cache"] == "bypass;vary", "who knows what it allows"


def test_under_asgi__hits_and_invalidates(library: Library) -> None:
    async def fetch() -> Any:
        return await AsyncClient().get("/decorated/")

    assert [async_to_sync(fetch)()["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert library.fetch("/decorated/")["X-Cache"] == "hit", "WSGI has the same"
    library.book.delete()
    assert async_to_sync(fetch)().json() == []


def define(bases: tuple[type, ...], **attributes: Any) -> Callable[[], Any]:
    return lambda: type("Mistaken", bases, attributes)


async def coroutine(request: Any) -> None:
    """What REST framework would not await."""


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (define((viewsets.ReadOnlyModelViewSet, CachedViewSetMixin)), "must come before"),
        (define((CachedViewSetMixin, generics.ListAPIView)), "not a viewset"),
        (define((CachedViewSetMixin, viewsets.ModelViewSet), cache_actions="list"), "cache_actions"),
        (define((CachedViewSetMixin, viewsets.ModelViewSet), cache_actions=["lst"]), "cache_actions"),
        (define((CachedViewSetMixin, viewsets.ModelViewSet), cache_vary="everyone"), "vary='everyone'"),
        (lambda: cached_response(vary="tenant"), "SCALING_KIT_CACHE_TENANT"),
        (lambda: cached_response(params="page"), "list of names"),
        (lambda: cached_response()(coroutine), "coroutine"),
    ],
)
def test_mistake__said_at_import(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises((ImproperlyConfigured, ValueError), match=message):
        mistake()


def test_vary_function_that_returns_an_object__refused(library: Library) -> None:
    with pytest.raises(TypeError, match="Return a primary key"):
        audience.plain(library.author, "vary")


@pytest.mark.django_db(transaction=True)
def test_became_someone_else_while_computing__not_stored() -> None:
    client = APIClient()
    assert [client.get("/moved-meanwhile/")["X-Cache"] for _ in range(3)] == ["bypass;vary", "miss", "hit"]


def test_disabled__computed_and_marked(library: Library) -> None:
    with override_settings(SCALING_KIT_CACHE_ENABLED=False):
        assert [library.fetch("/versioned/")["X-Cache"] for _ in range(2)] == ["bypass;disabled"] * 2
    assert Hooks.computed == 2
