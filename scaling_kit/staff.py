"""Pages for the staff, and the REST APIs under them: who is let in, and what everything else is answered.

Every refusal is `{"code": ..., "detail": ...}`, never an error 500 for what a client sent or a server that is away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from scaling_kit.parsers import BoundedJSONParser
from scaling_kit.permissions import Permissions
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

REFUSALS = {
    "request_invalid": (400, "The request is not what this address expects."),
    "redis_unavailable": (503, "Redis does not answer. Try again."),
    "database_unavailable": (503, "The database does not answer. Try again."),
}
RETRY_AFTER_SECONDS = 2


class RefusedError(APIException):
    """A request is refused. `code` is one of `refusals`; `more` joins the body of the response."""

    refusals: ClassVar[Mapping[str, tuple[int, str]]] = REFUSALS

    def __init__(self, code: str, detail: str = "", **more: Any) -> None:
        self.code = code
        self.status_code, default_detail = self.refusals[code]
        super().__init__(detail or default_detail, code)
        self.more = more
        if self.status_code == 503:
            self.wait = RETRY_AFTER_SECONDS  # DRF makes it the header Retry-After


@method_decorator([never_cache, ensure_csrf_cookie], name="dispatch")
class StaffPage(TemplateView):
    """Extends `scaling_kit/staff/page.html`. Who is not signed in is sent to the admin's login."""

    permissions: ClassVar[Permissions]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), reversed_or_empty("admin:login") or None)
        if not self.permissions.may_view(request.user):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            may_change=self.permissions.may_change(self.request.user),
            admin_url=reversed_or_empty("admin:index"),
            **kwargs,
        )


class CanSeeOrChange(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        permissions: Permissions = view.permissions  # type: ignore[attr-defined]
        allowed = permissions.may_view if request.method in SAFE_METHODS else permissions.may_change
        return allowed(request.user)


class StaffView(APIView):
    """A view of the API under a page."""

    permissions: ClassVar[Permissions]

    parser_classes = [BoundedJSONParser]
    renderer_classes = [JSONRenderer]
    permission_classes = [CanSeeOrChange]

    def get_authenticators(self) -> list[BaseAuthentication]:
        """The project's own, and the session, which the page has."""
        own = super().get_authenticators()
        has_session = any(isinstance(each, SessionAuthentication) for each in own)
        return own if has_session else [*own, SessionAuthentication()]

    def refusal_of(self, error: Exception) -> Exception:
        """The same error, as one that becomes a response, if it is one that clients should hear of."""
        return refusal_of(error)

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return self._refuse

    def _refuse(self, error: Exception, context: dict[str, Any]) -> Response | None:
        """DRF's own handling, with `{"code", "detail"}` as the body of every refusal."""
        error = self.refusal_of(error)
        response = exception_handler(error, context)
        if response is not None:
            response.data = body_of(error)
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        return response


def validated(serializer_class: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """What was sent, or a `ValidationError`."""
    serializer = serializer_class(data=data)
    serializer.is_valid(raise_exception=True)
    validated: dict[str, Any] = serializer.validated_data
    return validated


def reversed_or_empty(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


def refusal_of(error: Exception) -> Exception:
    """What every API has: a server that is away, and a request of the wrong shape."""
    if isinstance(error, RedisError):
        logger.warning("redis_unavailable error=%r", error)
        return RefusedError("redis_unavailable")
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("database_unavailable error=%r", error)
        return RefusedError("database_unavailable")
    if isinstance(error, ValidationError):
        return RefusedError("request_invalid", fields=error.detail)
    return error


def body_of(error: Exception) -> dict[str, Any]:
    """`{"code", "detail", ...}`."""
    if isinstance(error, RefusedError):
        return {"code": error.code, "detail": _text(error.detail), **error.more}
    detail = getattr(error, "detail", None)
    if isinstance(detail, dict) and "code" in detail:  # an authentication class that gives such a body itself
        return detail
    code = getattr(detail, "code", None) or getattr(error, "default_code", "refused")
    return {"code": code, "detail": _text(detail or error) or "Not allowed."}


def _text(value: object) -> str:
    """What clients sent may be quoted in it, half of a surrogate pair too."""
    return str(value).encode(errors="replace").decode()
