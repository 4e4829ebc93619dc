"""Cached responses of REST framework's views: what may be stored, for whom, and the HTTP around it.

A hit comes after `initial()`: authentication, permissions and throttles have run. Rendered bytes are stored, since
making model instances and serialising them is what takes the time.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from rest_framework.request import Request
from rest_framework.response import Response

from scaling_kit.cache import audience, entries, tags
from scaling_kit.cache.conf import settings
from scaling_kit.cache.entries import Computed, Served
from scaling_kit.cache.functions import seconds, validate_timeout
from scaling_kit.cache.tags import Dependency

Handler = TypeVar("Handler", bound=Callable[..., HttpResponseBase])
Vary = str | Callable[[Request], Any]

# What a view may say its response varies by, since the address has it.
COVERED_BY_ADDRESS = {"accept", "accept-language", "accept-encoding"}
COVERED_BY_USER = COVERED_BY_ADDRESS | {"authorization"}
FORBIDDING_DIRECTIVES = {"private", "no-store", "no-cache"}


def cached_response(
    *,
    timeout: float | timedelta | None = None,
    vary: Vary = "user",
    depends_on: Sequence[Dependency] = (),
    params: Sequence[str] | None = None,
) -> Callable[[Handler], Handler]:
    """Cache what a REST framework view, method of a view, or action answers to GET and HEAD, until the data changes.

    Put it next to the function, below `@action` and `@api_view`. What the view reads through Django's connections is
    observed; `depends_on` names what else it is made of: models, or names for `invalidate("name")`.

    `vary`: who shares an entry. `"user"`: nobody; `"public"`: everyone; a function of the request: those with the same
    value, and None is not cached. An object with a permission of its own is shared by nobody in any case.
    `params`: the query parameters that matter; all of them if None. `timeout` in seconds.
    """
    validate_timeout(timeout)
    if not callable(vary) and vary not in ("user", "public"):
        raise ValueError(f"vary={vary!r}: it must be 'user', 'public', or a function of the request")
    policy = _Policy(timeout=timeout, vary=vary, depends_on=depends_on, params=params)

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def wrapper(*args: Any, **kwargs: Any) -> HttpResponseBase:
            request = _request_among(args, handler)
            return policy.serve(request, handler.__qualname__, functools.partial(handler, *args, **kwargs))

        wrapper.is_cached_response = True  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate


if TYPE_CHECKING:
    from rest_framework.viewsets import GenericViewSet

    _ViewSet = GenericViewSet[Any]
else:
    _ViewSet = object


class CachedViewSetMixin(_ViewSet):
    """Caches the actions of a viewset that only read. Put it before REST framework's classes.

    The attributes are the arguments of `cached_response`; an action that is decorated with that keeps its own.
    """

    cache_actions: Sequence[str] = ("list", "retrieve")
    cache_timeout: float | timedelta | None = None
    cache_vary: Vary = "user"
    cache_depends_on: Sequence[Dependency] = ()
    cache_params: Sequence[str] | None = None

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        initialized: Request = super().initialize_request(request, *args, **kwargs)
        method = request.method.lower()
        handler: Any = getattr(self, method, None)
        if self.action in self.cache_actions and not hasattr(handler, "is_cached_response"):
            # On this instance, as `as_view()` has just done with the action itself.
            setattr(self, method, self._cached(handler))
        return initialized

    def _cached(self, handler: Handler) -> Handler:
        decorate = cached_response(
            timeout=self.cache_timeout,
            # From the class: as an attribute of the instance a function would be a method.
            vary=vars(self).get("cache_vary", type(self).cache_vary),
            depends_on=self.cache_depends_on,
            params=self.cache_params,
        )
        return decorate(handler)


class _Policy:
    """What was said to `cached_response`."""

    def __init__(
        self,
        *,
        timeout: float | timedelta | None,
        vary: Vary,
        depends_on: Sequence[Dependency],
        params: Sequence[str] | None,
    ) -> None:
        self.timeout = timeout
        self.vary = vary
        self.depends_on = depends_on
        self.params = None if params is None else frozenset(params)

    def serve(self, request: Request, name: str, handle: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return handle()
        sharers = self._sharers(request)
        compute = functools.partial(_compute, request, handle, is_public=sharers == [], covered=self._covered())
        reason = "vary" if sharers is None else audience.reason_to_bypass(request)
        view = type(audience.view_of(request))
        family = f"{view.__module__}.{view.__qualname__}.{name}"
        if reason:
            return _finished(request, entries.bypass(family, compute, reason))
        served = entries.serve(
            entries.address(
                family,
                sharers,
                *audience.subject(request),
                self._parameters(request),
            ),
            compute,
            _load,
            timeout_seconds=seconds(self.timeout),
            depends_on=frozenset(tags.of(*self.depends_on)),
        )
        return _finished(request, served)

    def _sharers(self, request: Request) -> list[Any] | None:
        """Who shares the entry: a part of its address, empty for everyone. None: nobody can tell."""
        shared: list[Any] = []
        if callable(self.vary):
            value = self.vary(request)
            if value is None:
                return None
            shared = [value]
        if self.vary != "user" and not audience.has_object_permissions(audience.view_of(request)):
            return shared
        user = audience.user(request)
        return [*shared, *user] if user else None

    def _covered(self) -> set[str]:
        return COVERED_BY_USER if self.vary == "user" else COVERED_BY_ADDRESS

    def _parameters(self, request: Request) -> list[tuple[str, list[str]]]:
        lists = request.query_params.lists()
        return sorted((name, values) for name, values in lists if self.params is None or name in self.params)


def _request_among(args: tuple[Any, ...], handler: Callable[..., Any]) -> Request:
    for argument in args[:2]:
        if isinstance(argument, Request):
            return argument
    raise ImproperlyConfigured(
        f"{handler.__qualname__} is not called with a request of REST framework: "
        "cached_response belongs on methods of an APIView or ViewSet, or below @api_view."
    )


def _compute(
    request: Request, handle: Callable[[], HttpResponseBase], *, is_public: bool, covered: set[str]
) -> Computed[HttpResponseBase]:
    response = handle()
    if not isinstance(response, HttpResponse):
        return Computed(value=response, refusal="streaming")
    if response.status_code != 200:
        return Computed(value=response, refusal="status")
    _render(request, response)
    if refusal := _refusal(request, response, covered):
        return Computed(value=response, refusal=refusal)
    # By these, clients ask again and get 304.
    response.setdefault("ETag", f'"{hashlib.sha256(response.content).hexdigest()[:32]}"')
    response.setdefault("Cache-Control", "private, no-cache")
    patch_vary_headers(response, ["Accept", "Accept-Language", *([] if is_public else ["Authorization", "Cookie"])])
    return Computed(value=response, payload=_dump(response))


def _render(request: Request, response: HttpResponse) -> None:
    if isinstance(response, Response):
        # As REST framework's `finalize_response` is going to do; rendered once, it stays as it is.
        response.accepted_renderer = request.accepted_renderer
        response.accepted_media_type = request.accepted_media_type
        response.renderer_context = audience.view_of(request).get_renderer_context()  # type: ignore[attr-defined]
        response.render()


def _refusal(request: Request, response: HttpResponseBase, covered: set[str]) -> str:
    """Why this response, rendered, must not be stored; empty if it may."""
    if response.cookies or response.has_header("Set-Cookie"):
        return "cookie"
    if FORBIDDING_DIRECTIVES & _listed(response, "Cache-Control"):
        return "cache-control"
    if _listed(response, "Vary") - covered:
        return "vary"
    if getattr(getattr(request, "session", None), "modified", False):
        return "session"
    return "csrf" if request.META.get("CSRF_COOKIE_NEEDS_UPDATE") else ""


def _listed(response: HttpResponseBase, header: str) -> set[str]:
    """The items of a header in small letters, without what follows a `=`."""
    items = str(response.get(header, "")).lower().split(",")
    return {item.partition("=")[0].strip() for item in items if item.strip()}


def _dump(response: HttpResponse) -> bytes:
    return json.dumps(dict(response.items())).encode() + b"\n" + response.content


def _load(payload: bytes) -> HttpResponseBase:
    headers, _, body = payload.partition(b"\n")
    return HttpResponse(body, headers=json.loads(headers))


def _finished(request: Request, served: Served[HttpResponseBase]) -> HttpResponseBase:
    response = served.value
    if response.status_code == 200 and response.has_header("ETag"):
        response = get_conditional_response(request._request, etag=response["ETag"], response=response)  # type: ignore[arg-type,assignment]
    if settings.HEADER:
        response["X-Cache"] = served.status
    return response
