"""Who asks, and for what: the parts of a request that make the address of its response.

A view is shown no more of a request than its address has (`as_addressed`), or it is noticed that it has seen more.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import HttpRequest, QueryDict
from django.utils.functional import cached_property as django_cached_property
from django.utils.module_loading import import_string
from rest_framework.permissions import AND, NOT, OR, BasePermission
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from scaling_kit.cache import entries
from scaling_kit.cache.conf import settings
from scaling_kit.cache.policy import Policy

# Pages for humans, with forms, tokens and the user's name.
RENDERERS_FOR_HUMANS = {"api", "admin"}
LONGEST_QUERY = 2000
LONGEST_MEDIA_TYPE = 200
# These differ between two tokens that say the same.
CLAIMS_OF_ONE_TOKEN = {"exp", "iat", "jti", "nbf"}
# What Django's permission backends keep on a user: read before the entry's sequence, and not observed.
REMEMBERED_PERMISSIONS = ("_perm_cache", "_user_perm_cache", "_group_perm_cache", "_prefetched_objects_cache")

Parameters = list[tuple[str, list[str]]]


def view_of(request: Request) -> APIView:
    view: APIView = request.parser_context["view"]
    return view


def user(request: Request) -> list[Any] | None:
    """The user, and whatever was loaded with them: their row, and what they have authenticated with.

    That was read before the entry's sequence, so it must not merely be depended on: a name that has changed since
    makes another address. None if the user, or the token, cannot be told from others.
    """
    user = request.user
    known = _credentials(request.auth)
    if known is None:
        return None
    if not getattr(user, "is_authenticated", False):
        return ["anonymous", known]
    if getattr(user, "pk", None) is None:
        return None
    kind = f"{user.__class__.__module__}.{user.__class__.__qualname__}"
    return [kind, user.pk, _row(user) if isinstance(user, Model) else "", known]


def role(request: Request) -> list[Any] | None:
    """What the user may: flags, groups (or roles of a token), and permissions. None if there is no telling."""
    user = request.user
    if not getattr(user, "is_authenticated", False):
        return ["anonymous"]
    flags = [bool(getattr(user, flag, False)) for flag in ("is_active", "is_staff", "is_superuser")]
    if isinstance(user, Model):
        return [*flags, *_granted(user)]
    if not hasattr(user, "get_all_permissions"):
        return None
    return [*flags, sorted(getattr(user, "roles", ())), sorted(user.get_all_permissions())]


def tenant(request: Request) -> Any:
    """What the function named by SCALING_KIT_CACHE_TENANT says of the request."""
    return plain(tenant_function()(request), "SCALING_KIT_CACHE_TENANT")


def tenant_function() -> Callable[[Request], Any]:
    """Raises `ImproperlyConfigured` if SCALING_KIT_CACHE_TENANT does not name a function."""
    path = settings.TENANT
    if not path:
        raise ImproperlyConfigured(
            "vary='tenant' needs SCALING_KIT_CACHE_TENANT, the path of a function of the request which returns "
            "the tenant's primary key; or pass a function as vary."
        )
    try:
        function = _imported(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"SCALING_KIT_CACHE_TENANT = {path!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ImproperlyConfigured(f"SCALING_KIT_CACHE_TENANT = {path!r} is {function!r}, not a function.")
    named: Callable[[Request], Any] = function
    return named


def plain(value: Any, said_by: str) -> Any:
    """The value as a part of an address. Raises `TypeError` for what may be spelled like something else."""
    try:
        return None if value is None else json.dumps(value, default=_spelled, sort_keys=True)
    except TypeError as error:
        raise TypeError(f"{said_by} returned {value!r}: {error}. Return a primary key, a name, or a list.") from error


def judges_objects(view: APIView) -> bool:
    """May this view refuse one object to one user? That check does not run on a hit."""
    if type(view).check_object_permissions is not APIView.check_object_permissions:
        return True
    return any(_judges_objects(permission) for permission in view.get_permissions())


def subject(request: Request) -> list[Any]:
    """What is asked for, besides the query parameters."""
    http = request._request
    kwargs = view_of(request).kwargs
    return [
        http.scheme,
        http.get_host(),  # in the links of paginated and hyperlinked answers
        http.path,
        sorted(kwargs.items()) if kwargs else 0,
        request.accepted_renderer.format,
        request.accepted_media_type,
        request.version,
    ]


def parameters(request: Request, wanted: frozenset[str] | None) -> Parameters:
    """The query parameters, or the wanted ones; in the order of their names, since that never matters."""
    http = request._request
    if not http.META.get("QUERY_STRING"):
        return []
    found = sorted(http.GET.lists())
    if wanted is None:
        return found
    # In the links of an answer, these lead to more answers of the same kind.
    wanted |= {str(api_settings.URL_FORMAT_OVERRIDE), getattr(request.versioning_scheme, "version_param", "")}
    return [(name, values) for name, values in found if name in wanted]


def reason_to_bypass(request: Request) -> str:
    """Why the answer to this request cannot be found by its address; empty if it can."""
    meta = request._request.META
    if meta.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in meta:
        return "body"
    if len(meta.get("QUERY_STRING", "")) > LONGEST_QUERY:
        return "query"
    renderer = request.accepted_renderer
    if renderer.format in RENDERERS_FOR_HUMANS or isinstance(renderer, BrowsableAPIRenderer):
        return "renderer"
    return "renderer" if len(request.accepted_media_type) > LONGEST_MEDIA_TYPE else ""


@dataclass(kw_only=True)
class Seen:
    """What a view has looked at, of that which no address has."""

    session: bool = False
    cookies: bool = False
    objects: bool = False


@contextmanager
def as_addressed(request: Request, parameters: Parameters) -> Iterator[Seen]:
    """In the body the request is what its address says, and what a view sees besides is written down.

    A GET, with the parameters of the address and in their order; a user of whom only the row is known.
    """
    seen = Seen()
    http = request._request
    _forget_what_was_loaded(request.user)
    with _as_get(http, parameters), _watched_state(http, seen), _watched_permissions(view_of(request), seen):
        yield seen


@contextmanager
def _as_get(http: HttpRequest, parameters: Parameters) -> Iterator[None]:
    method, query, text = http.method, http.GET, http.META.get("QUERY_STRING", "")
    addressed = QueryDict(mutable=True, encoding=query.encoding)
    for name, values in parameters:
        addressed.setlist(name, values)
    addressed._mutable = False
    http.method, http.GET, http.META["QUERY_STRING"] = "GET", addressed, addressed.urlencode()  # type: ignore[assignment]
    try:
        yield
    finally:
        http.method, http.GET, http.META["QUERY_STRING"] = method, query, text


class _Cookies(dict[str, str]):
    """The request's cookies. `was_read` after anyone has asked for one."""

    was_read = False

    def _noting(name: str) -> Any:  # type: ignore[misc]  # noqa: N805
        def method(self: _Cookies, *args: Any) -> Any:
            self.was_read = True
            return getattr(dict, name)(self, *args)

        return method

    __getitem__, __contains__, __iter__ = map(_noting, ("__getitem__", "__contains__", "__iter__"))
    get, items, keys, values = map(_noting, ("get", "items", "keys", "values"))


@contextmanager
def _watched_state(http: HttpRequest, seen: Seen) -> Iterator[None]:
    session = getattr(http, "session", None)
    accessed = getattr(session, "accessed", False)
    cookies = http.COOKIES
    http.COOKIES = watched = _Cookies(cookies)
    if session is not None:
        session.accessed = False
    try:
        yield
    finally:
        http.COOKIES = cookies
        seen.cookies = watched.was_read
        if session is not None:
            seen.session = session.accessed
            session.accessed |= accessed


@contextmanager
def _watched_permissions(view: APIView, seen: Seen) -> Iterator[None]:
    if not judges_objects(view):
        yield
        return
    check = view.check_object_permissions

    def noted(request: Request, obj: Any) -> None:
        seen.objects = True
        check(request, obj)

    view.check_object_permissions = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        del view.check_object_permissions


def _forget_what_was_loaded(user: Any) -> None:
    """Have a view read anew, and so be observed, what a permission or a middleware has loaded with the user."""
    if not isinstance(user, Model):
        return
    user._state.fields_cache.clear()
    loaded = vars(user)
    for name in list(loaded):
        computed = isinstance(getattr(type(user), name, None), cached_property | django_cached_property)
        if computed or name in REMEMBERED_PERMISSIONS:
            del loaded[name]


def _credentials(auth: Any) -> Any:
    """What the request has authenticated with: a token may say more, or allow less, than its user. None: unknown."""
    if auth is None:
        return ""
    claims = _claims(auth)
    if claims is not None:
        return repr(sorted((str(name), value) for name, value in claims.items() if name not in CLAIMS_OF_ONE_TOKEN))
    if isinstance(auth, Model):
        return f"{auth._meta.label} {_row(auth)}"
    return repr(auth) if isinstance(auth, str | bytes | int) else None


def _claims(auth: Any) -> Mapping[Any, Any] | None:
    """Of a token of scaling_kit.tokens, of simplejwt, or one that is a mapping."""
    for claims in (getattr(auth, "claims", None), getattr(auth, "payload", None), auth):
        if isinstance(claims, Mapping):
            return claims
    return None


def _row(instance: Model) -> str:
    loaded = vars(instance)
    return repr([loaded.get(name, ...) for name in _columns(type(instance))])


@functools.lru_cache(maxsize=64)
def _columns(model: type[Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields)


def _granted(user: Any) -> Any:
    """The groups and the own permissions of a user, from an entry of their own: on a hit no SQL for them either."""

    def compute() -> entries.Computed[Any]:
        granted = [
            sorted(getattr(user, name).values_list("pk", flat=True))
            for name in ("groups", "user_permissions")
            if hasattr(user, name)
        ]
        payload = json.dumps(granted, default=_spelled).encode()
        return entries.Computed(value=json.loads(payload), payload=payload)

    address = entries.address("scaling_kit.cache.role", user._meta.label, user.pk)
    return Policy().serve(address, compute, json.loads).value


@functools.lru_cache(maxsize=8)
def _imported(path: str) -> Any:
    return import_string(path)


def _judges_objects(permission: Any) -> bool:
    if isinstance(permission, AND | OR | NOT):
        return any(map(_judges_objects, vars(permission).values()))  # what they combine
    ours = BasePermission.has_object_permission
    return getattr(type(permission), "has_object_permission", ours) is not ours


def _spelled(value: Any) -> str:
    if isinstance(value, UUID | Decimal | date | time):
        return f"{type(value).__name__} {value}"
    raise TypeError(f"Object of type {type(value).__name__} may look like another one")
