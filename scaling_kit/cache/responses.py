"""Cached responses of REST framework's views: what may be stored, for whom, and the HTTP around it.

A hit comes after `initial()`: authentication, permissions and throttles have run. Rendered bytes are stored, since
making model instances and serialising them is what takes the time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import parse_http_date_safe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from scaling_kit.cache import audience, entries
from scaling_kit.cache.audience import Parameters, Seen
from scaling_kit.cache.conf import settings
from scaling_kit.cache.entries import Computed, Served
from scaling_kit.cache.policy import Policy
from scaling_kit.cache.readings import Address
from scaling_kit.cache.scopes import Scope
from scaling_kit.cache.tags import Dependency

Handler = TypeVar("Handler", bound=Callable[..., HttpResponseBase])
Vary = str | Callable[[Request], Any]

SHARERS = ("user", "public", "role", "tenant")
# What a view may say its response varies by, since the address has it.
COVERED_BY_ADDRESS = {"accept", "accept-language", "accept-encoding"}
COVERED_BY_USER = COVERED_BY_ADDRESS | {"authorization"}
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")
FORBIDDING_DIRECTIVES = {"private", "no-store", "no-cache"}


def cached_response(
    *,
    timeout: float | timedelta | None = None,
    vary: Vary = "user",
    depends_on: Sequence[Dependency] = (),
    params: Sequence[str] | None = None,
    scope: Callable[[Request], Scope] | None = None,
    stale_while_revalidate: float = 0.0,
) -> Callable[[Handler], Handler]:
    """Cache what a REST framework view, method of a view, or action answers to GET and HEAD, until the data changes.

    Put it next to the function, below `@action` and `@api_view`. What the view reads through Django's connections is
    observed; `depends_on` names what else it is made of: models, or names for `invalidate("name")`.

    `vary`: who shares an entry. `"user"`: nobody; `"public"`: everyone; `"role"`: those with the same flags, groups and
    permissions; `"tenant"`: those for whom SCALING_KIT_CACHE_TENANT says the same; a function of the request: those
    with the same value (JSON, UUID, date), and None is not cached. It is called once more after a computation, which
    is not stored if the value has changed. Where a view judges single objects, nobody shares in any case.
    `params`: the query parameters that matter, all of them if None; the view does not see any others.
    `scope`: a function of the request, `{Article: 7}`: of these models only rows of that scope are shown, see `scopes`.
    `timeout` in seconds. `stale_while_revalidate`: for how many seconds after a change (or its end) the others get the
    old answer while one request computes the new one; not even whoever has made the change is sure to see it then.
    """
    policy = _policy(
        timeout=timeout,
        vary=vary,
        depends_on=tuple(depends_on),
        params=_names(params),
        scope=scope,
        stale_while_revalidate=stale_while_revalidate,
    )
    policy.ensure_usable()

    def decorate(handler: Handler) -> Handler:
        if inspect.iscoroutinefunction(handler):
            raise ImproperlyConfigured(
                f"{handler.__qualname__} is a coroutine function, REST framework's views are not. "
                "Cache the function that computes its answer with @cached."
            )

        @functools.wraps(handler)
        def wrapper(*args: Any, **kwargs: Any) -> HttpResponseBase:
            return policy.respond(handler, args, kwargs)

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
    cache_scope: Callable[[Request], Scope] | None = None
    cache_stale_while_revalidate: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _ensure_usable(cls)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        initialized: Request = super().initialize_request(request, *args, **kwargs)
        method = request.method.lower()
        handler: Any = getattr(self, method, None)
        if self.action in self.cache_actions and not hasattr(handler, "is_cached_response"):
            # On this instance, as `as_view()` has just done with the action itself.
            setattr(self, method, functools.partial(self._respond, handler))
        return initialized

    def _respond(self, handler: Callable[..., HttpResponseBase], *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _policy_of(self).respond(handler, args, kwargs)


def _policy_of(viewset: CachedViewSetMixin | type[CachedViewSetMixin]) -> ResponsePolicy:
    cls = viewset if isinstance(viewset, type) else type(viewset)
    return _policy(
        timeout=viewset.cache_timeout,
        # From the class: as an attribute of the instance a function would be a method.
        vary=vars(viewset).get("cache_vary", cls.cache_vary),
        scope=vars(viewset).get("cache_scope", cls.cache_scope),
        depends_on=tuple(viewset.cache_depends_on),
        params=_names(viewset.cache_params),
        stale_while_revalidate=viewset.cache_stale_while_revalidate,
    )


@dataclass(frozen=True, kw_only=True)
class ResponsePolicy(Policy):
    vary: Vary = "user"
    params: frozenset[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.vary) and self.vary not in SHARERS:
            raise ValueError(f"vary={self.vary!r}: it must be one of {SHARERS}, or a function of the request")

    def ensure_usable(self) -> None:
        """Raise `ImproperlyConfigured` for what the settings would have to say."""
        if self.vary == "tenant":
            audience.tenant_function()

    def respond(
        self, handler: Callable[..., HttpResponseBase], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> HttpResponseBase:
        request = _request_among(args, handler)
        if request._request.method not in ("GET", "HEAD"):
            return handler(*args, **kwargs)
        parameters = audience.parameters(request, self.params)
        sharers = self._sharers(request)
        compute = functools.partial(self._compute, request, parameters, sharers, lambda: handler(*args, **kwargs))
        if reason := "vary" if sharers is None else audience.reason_to_bypass(request):
            served = entries.bypass(_family(request, handler), compute, reason)
        else:
            scope = self.scope(request) if self.scope else None
            served = self.serve(_address(request, handler, sharers, parameters), compute, _load, scope=scope)
        return _finished(request, served)

    def _sharers(self, request: Request) -> list[Any] | None:
        """Who shares the entry: a part of its address. None: there is no telling."""
        said = self._said(request)
        if said is None:
            return None
        if not self._is_for_one_user(request):
            return [said]
        user = audience.user(request)
        return None if user is None else [said, user]

    def _said(self, request: Request) -> Any:
        if callable(self.vary):
            return audience.plain(self.vary(request), f"vary={self.vary!r}")
        if self.vary == "role":
            return audience.role(request)
        return audience.tenant(request) if self.vary == "tenant" else self.vary

    def _is_for_one_user(self, request: Request) -> bool:
        if self.vary == "user":
            return True
        view = audience.view_of(request)
        # REST framework does not ask for the permission of each object in a list.
        return getattr(view, "detail", None) is not False and audience.judges_objects(view)

    def _compute(
        self,
        request: Request,
        parameters: Parameters,
        sharers: list[Any] | None,
        handle: Callable[[], HttpResponseBase],
    ) -> Computed[HttpResponseBase]:
        with audience.as_addressed(request, parameters) as seen:
            response = handle()
            if not isinstance(response, HttpResponse):
                return Computed(value=response, refusal="streaming")
            if response.status_code != 200:
                return Computed(value=response, refusal="status")
            _render(request, response)
        if refusal := _refusal_of(response, self._covered()) or self._refusal_for(request, sharers, seen):
            return Computed(value=response, refusal=refusal)
        _set_headers(response, is_public=self.vary == "public" and not self._is_for_one_user(request))
        return Computed(value=response, payload=_dump(response))

    def _refusal_for(self, request: Request, sharers: list[Any] | None, seen: Seen) -> str:
        """Why what was computed from this request must not be stored; empty if it may."""
        if seen.cookies:
            return "cookie"
        if seen.session or getattr(getattr(request, "session", None), "modified", False):
            return "session"
        if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
            return "csrf"
        if seen.objects and not self._is_for_one_user(request):
            return "vary"
        # Who they are was found out before anything else: they may have become someone else meanwhile.
        return "" if self._sharers(request) == sharers else "vary"

    def _covered(self) -> set[str]:
        return COVERED_BY_USER if self.vary == "user" else COVERED_BY_ADDRESS


_policy = functools.lru_cache(maxsize=1024)(ResponsePolicy)


class StoredResponse(Response):
    """A response of REST framework, rendered some time ago. `data` is parsed when it is asked for, if it is JSON."""

    template_name: Any = None
    context_data = using = content_type = None
    exception = False
    _request: Any = None
    _post_render_callbacks: Any = ()

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        HttpResponse.__init__(self, body, headers=headers)

    @property
    def data(self) -> Any:
        if "data" not in vars(self):
            vars(self)["data"] = self.json()
        return vars(self)["data"]

    @data.setter
    def data(self, value: Any) -> None:
        vars(self)["data"] = value

    def json(self) -> Any:
        if "json" not in self.headers.get("Content-Type", ""):
            raise AttributeError("data")
        return json.loads(self.content)


def _names(params: Sequence[str] | None) -> frozenset[str] | None:
    if isinstance(params, str):
        raise ValueError(f"params={params!r}: it must be a list of names")  # noqa: TRY004  (as for the other arguments)
    return None if params is None else frozenset(params)


def _ensure_usable(cls: type[CachedViewSetMixin]) -> None:
    """Raise `ImproperlyConfigured` for a class that would not cache anything, `ValueError` for a wrong attribute."""
    bases = cls.__mro__
    if APIView in bases and ViewSetMixin not in bases:
        raise ImproperlyConfigured(
            f"{cls.__qualname__} is not a viewset: CachedViewSetMixin has no effect. "
            "Put @method_decorator(cached_response(...), name='get') on it."
        )
    if APIView in bases and bases.index(CachedViewSetMixin) > bases.index(ViewSetMixin):
        raise ImproperlyConfigured(
            f"{cls.__qualname__}: CachedViewSetMixin must come before REST framework's classes, or it has no effect."
        )
    own = vars(cls).get("cache_actions", ())
    if isinstance(own, str) or (APIView in bases and not all(hasattr(cls, action) for action in own)):
        raise ImproperlyConfigured(f"{cls.__qualname__}.cache_actions = {own!r} is not a list of its actions.")
    _policy_of(cls).ensure_usable()


def _request_among(args: Sequence[Any], handler: Callable[..., Any]) -> Request:
    for argument in args[:2]:
        if isinstance(argument, Request):
            return argument
    raise ImproperlyConfigured(
        f"{handler.__qualname__} is not called with a request of REST framework: "
        "cached_response belongs on methods of an APIView or ViewSet, or below @api_view."
    )


def _address(
    request: Request, handler: Callable[..., Any], sharers: list[Any] | None, parameters: Parameters
) -> Address:
    # A handler that calls another one is not to find its own entry there.
    name = f"{handler.__module__}.{handler.__qualname__}"
    # Spelled by `repr`, three times as fast as JSON: this is on the way of every hit.
    place = repr([name, sharers, audience.subject(request), parameters])
    return entries.address(_family(request, handler), place)


def _family(request: Request, handler: Callable[..., Any]) -> str:
    view = type(audience.view_of(request))
    if view.__name__ == handler.__name__:  # what `api_view` makes of a function
        return f"{handler.__module__}.{handler.__qualname__}"
    return f"{view.__module__}.{view.__qualname__}.{handler.__name__}"


def _render(request: Request, response: HttpResponse) -> None:
    if isinstance(response, Response):
        # As REST framework's `finalize_response` is going to do; rendered once, it stays as it is.
        response.accepted_renderer = request.accepted_renderer
        response.accepted_media_type = request.accepted_media_type
        response.renderer_context = audience.view_of(request).get_renderer_context()  # type: ignore[attr-defined]
        response.render()


def _refusal_of(response: HttpResponseBase, covered: set[str]) -> str:
    """Why this response, rendered, must not be stored; empty if it may."""
    if response.cookies or response.has_header("Set-Cookie"):
        return "cookie"
    if FORBIDDING_DIRECTIVES & _listed(response, "Cache-Control"):
        return "cache-control"
    return "vary" if _listed(response, "Vary") - covered else ""


def _listed(response: HttpResponseBase, header: str) -> set[str]:
    """The items of a header in small letters, without what follows a `=`."""
    items = str(response.get(header, "")).lower().split(",")
    return {item.partition("=")[0].strip() for item in items if item.strip()}


def _set_headers(response: HttpResponse, *, is_public: bool) -> None:
    """By these, clients ask again and get 304."""
    response.setdefault("Cache-Control", "private, no-cache")
    patch_vary_headers(response, ["Accept", "Accept-Language", *([] if is_public else ["Authorization", "Cookie"])])
    # Of the headers too: a 304 leaves them to the client as they were.
    response.setdefault("ETag", f'"{hashlib.sha256(_dump(response)).hexdigest()[:32]}"')


def _dump(response: HttpResponse) -> bytes:
    return json.dumps([isinstance(response, Response), dict(response.items())]).encode() + b"\n" + response.content


def _load(payload: bytes) -> HttpResponseBase:
    head, _, body = payload.partition(b"\n")
    is_rendered, headers = json.loads(head)
    response = (StoredResponse if is_rendered else HttpResponse)(body, headers=headers)
    if "Content-Type" not in headers:  # of an empty body; Django has just put one there
        del response["Content-Type"]
    return response


def _finished(request: Request, served: Served[HttpResponseBase]) -> HttpResponseBase:
    response = served.value
    if response.status_code == 200 and response.has_header("ETag"):
        response = _conditional(request, response)
    if settings.HEADER:
        response["X-Cache"] = served.status
    return response


def _conditional(request: Request, response: HttpResponseBase) -> HttpResponseBase:
    """304 or 412, if that is what the request's conditions come to."""
    if not any(condition in request._request.META for condition in CONDITIONS):
        return response
    modified = response.get("Last-Modified")
    result: HttpResponseBase = get_conditional_response(  # type: ignore[assignment]
        request._request,
        etag=response["ETag"],
        last_modified=parse_http_date_safe(modified) if modified else None,
        response=response,  # type: ignore[arg-type]
    )
    return result
