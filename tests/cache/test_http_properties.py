"""Whoever asks, however they ask, and whatever has just been written: the answer is the one without the cache.

The same search must find a mistake in each room that is broken on purpose, or it proves nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.http import HttpResponse
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rest_framework.test import APIClient

from scaling_kit.cache import audience, entries, responses
from tests.library.models import Author, Book

PATHS = [
    *("/linked/", "/narrow/", "/linked/{pk}/", "/foreign/{pk}/", "/foreign/first/"),
    *("/self/", "/role/", "/tenant/", "/place/", "/cart/", "/visits/"),
]
QUERIES = [
    *("", "page=2", "search=The&page=1", "page=1&search=The", "ordering=-title", "ordering=title&size=5", "search="),
    *("x=1", "x=1&page=2", "x=2&page=2", "page=1&page=2", "page=2&page=1", "search=%C3%A9", "search=%FF", "&&a&b=%26"),
    *("format=csv", "format=json&size=1", "format=nothing"),
]
names, values = st.sampled_from(["page", "size", "search", "a", "é"]), st.sampled_from(["1", "2", "", "é&", " "])
queries = st.sampled_from(QUERIES) | st.lists(st.tuples(names, values), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).replace("é", "%C3%A9").replace(" ", "+")
)
CIRCUMSTANCES: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from([None, "ada", "bob", "eve", "Ursula"]),
    "claims": st.sampled_from([None, {"tenant": 1}, {"tenant": "1"}, {"tenant": 2}, {"tenant": 1, "jti": "x"}]),
    "accept": st.sampled_from(
        ["application/json", "application/json; version=2", "application/json; indent=4", "text/csv", "text/html"]
    ),
    "language": st.sampled_from(["en", "de", "de-AT, fr;q=0.5", "*"]),
    "zone": st.sampled_from(["UTC", "Asia/Tokyo"]),
    "host": st.sampled_from(["testserver", "localhost"]),
    "secure": st.booleans(),
    "query": queries,
    "cart": st.sampled_from([None, "1", "2"]),
    "book": st.sampled_from([0, 1]),
    "method": st.sampled_from(["GET", "HEAD"]),
    "if_none_match": st.sampled_from(["", "*", '"unknown"', 'W/"unknown", "other"', "latest"]),
}
WRITES: dict[str, Callable[[], Any]] = {
    "book retitled": lambda: _toggle(Book, "title", "The Dispossessed", "Déjà vu"),
    "author renamed": lambda: _toggle(Author, "name", "Ursula", "Stanislaw"),
    "book added": lambda: Book.objects.create(title="The Lathe", author=Author.objects.all()[0]),
    "books removed": lambda: Book.objects.filter(title="The Lathe").delete(),
    "user renamed": lambda: _toggle(User, "first_name", "Ada", "Augusta"),
    "staff": lambda: User.objects.filter(username="ada").update(is_staff=not User.objects.get(username="ada").is_staff),
    "group": lambda: _toggle_membership(User.objects.get(username="bob").groups, Group.objects.get()),
    "permission": lambda: _toggle_membership(User.objects.get(username="eve").user_permissions, _permission()),
    "permission of group": lambda: _toggle_membership(Group.objects.get().permissions, _permission()),
}
# One circumstance at a time changes, or something is written: what lies nearest is what gets mixed up.
steps = st.one_of(
    *(st.tuples(st.just(name), strategy) for name, strategy in CIRCUMSTANCES.items()),
    *[st.tuples(st.just("write"), st.sampled_from(sorted(WRITES)))] * 3,
)
scenarios = {"asked": st.fixed_dictionaries(CIRCUMSTANCES), "steps": st.lists(steps, min_size=1, max_size=7)}
# What mostly ends in an answer that is stored.
PLAIN = {"accept": "application/json", "query": "", "cart": None, "method": "GET", "if_none_match": ""}
plain_start = st.fixed_dictionaries({**CIRCUMSTANCES, **{name: st.just(value) for name, value in PLAIN.items()}})
unhurried = examples(deadline=None, suppress_health_check=list(HealthCheck))


def _toggle(model: Any, field: str, one: str, other: str) -> None:
    instance = model.objects.order_by("pk")[0]
    setattr(instance, field, other if getattr(instance, field) == one else one)
    instance.save()


def _toggle_membership(members: Any, one: Any) -> None:
    if members.contains(one):
        members.remove(one)
    else:
        members.add(one)


def _permission() -> Permission:
    return Permission.objects.get(codename="change_book")


@pytest.fixture
def people(transactional_db: None, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.cache.circumstances"
    settings.SCALING_KIT_CACHE_TENANT = "tests.cache.circumstances.tenant_of"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[:2],
        "django.middleware.locale.LocaleMiddleware",
        *settings.MIDDLEWARE[2:],
        "tests.cache.circumstances.zone_middleware",
    ]
    for name in ("ada", "bob", "eve", "Ursula"):
        User.objects.create(username=name)
    User.objects.get(username="bob").groups.add(Group.objects.create(name="editors"))
    author = Author.objects.create(name="Ursula")
    Book.objects.create(title="The Dispossessed", author=author)
    Book.objects.create(title="Déjà vu", author=author)


def ask(path: str, asked: dict[str, Any], etag: str) -> HttpResponse:
    client = APIClient()
    if asked["user"] or asked["claims"]:
        # Loaded anew for each request, as authentication does.
        user = User.objects.filter(username=asked["user"]).first() or AnonymousUser()
        client.force_authenticate(user, asked["claims"] and SimpleNamespace(payload=asked["claims"]))
    if asked["cart"]:
        client.cookies["cart"] = asked["cart"]
    headers = {
        "Accept": asked["accept"],
        "Accept-Language": asked["language"],
        "X-Zone": asked["zone"],
        "Host": asked["host"],
        "If-None-Match": etag if asked["if_none_match"] == "latest" else asked["if_none_match"],
    }
    url = path.format(pk=Book.objects.order_by("pk")[asked["book"]].pk)
    response: Any = client.generic(
        asked["method"], f"{url}?{asked['query']}", secure=asked["secure"], headers=headers, content_type=""
    )
    return response


def said(response: HttpResponse) -> tuple[Any, ...]:
    headers = {name: value for name, value in response.items() if name != "X-Cache"}
    is_page = "html" in headers.get("Content-Type", "")  # never stored; it has a token of its own each time
    return response.status_code, headers, b"" if is_page else response.content


def compare(path: str, asked: dict[str, Any], steps: list[tuple[str, Any]]) -> int:
    """How many answers were hits."""
    hits, etag = 0, ""
    for name, value in [("user", asked["user"]), *steps, *steps[:1]]:
        if name == "write":
            WRITES[value]()
        else:
            asked = {**asked, name: value}
        answer = ask(path, asked, etag)
        with override_settings(SCALING_KIT_CACHE_ENABLED=False):
            right = ask(path, asked, etag)
        assert said(answer) == said(right)
        hits += answer.get("X-Cache") == "hit"
        etag = answer.get("ETag", etag)
    return hits


@pytest.mark.usefixtures("people")
def test_any_circumstances__the_answer_is_the_one_without_the_cache() -> None:
    hits = []

    @examples(unhurried, max_examples=80)
    @given(path=st.sampled_from(PATHS), **scenarios)
    def search(path: str, asked: dict[str, Any], steps: list[tuple[str, Any]]) -> None:
        hits.append(compare(path, asked, steps))

    search()
    assert sum(hits) > 100, "or this has compared nothing with nothing"


def without(function: Callable[..., Any], *indexes: int) -> Callable[..., list[Any]]:
    return lambda *args: [part for index, part in enumerate(function(*args)) if index not in indexes]


_address = responses._address

BREAKS: dict[str, tuple[str, object, str, Any]] = {
    "user": ("/self/", audience, "user", lambda request: ["anyone"]),
    "claims": ("/self/", audience, "_credentials", lambda auth: ""),
    "role": ("/role/", audience, "_granted", lambda user: []),
    "tenant": ("/tenant/", audience, "tenant", lambda request: "any"),
    "scheme": ("/linked/", audience, "subject", without(audience.subject, 0)),
    "host": ("/linked/", audience, "subject", without(audience.subject, 1)),
    "path": ("/linked/{pk}/", audience, "subject", without(audience.subject, 2, 3)),
    "media type": ("/linked/", audience, "subject", without(audience.subject, 5)),
    "language": ("/place/", entries, "translation", SimpleNamespace(get_language=lambda: "en")),
    "time zone": ("/place/", entries, "timezone", SimpleNamespace(get_current_timezone_name=lambda: "UTC")),
    "parameters": ("/linked/", responses, "_address", lambda *args: _address(*args[:3], [])),
    "parameters not wanted": ("/narrow/", audience, "_as_get", lambda http, parameters: nullcontext()),
    "object permissions": ("/foreign/{pk}/", audience, "judges_objects", lambda view: False),
    "remembered permissions": ("/self/", audience, "_forget_what_was_loaded", lambda user: None),
    "cookies": ("/cart/", audience, "_Cookies", type("Cookies", (dict,), {"was_read": False})),
}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("part", BREAKS)
def test_part_of_the_address_left_out__found(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, *broken = BREAKS[part]

    @examples(unhurried, max_examples=300, phases=[Phase.generate])
    @given(asked=plain_start, steps=scenarios["steps"])
    def search(asked: dict[str, Any], steps: list[tuple[str, Any]]) -> None:
        compare(path, asked, steps)

    monkeypatch.setattr(*broken)
    with pytest.raises(AssertionError):
        search()
