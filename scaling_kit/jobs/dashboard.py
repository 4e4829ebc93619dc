"""django-rq's pages in the admin, for those who may see, or change, jobs.

Its own admin lets in every staff user, whatever their permissions, and takes a token from the path of a URL, where
access logs keep it. Here its views ask for the permissions of this room first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import django_rq.admin
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern
from django_rq.models import Dashboard

from scaling_kit.jobs import permissions

View = Callable[..., HttpResponseBase]
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class DashboardAdmin(django_rq.admin.QueueAdmin):
    def has_module_permission(self, request: HttpRequest) -> bool:
        return permissions.may_view(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return permissions.may_view(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return permissions.may_change(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def get_urls(self) -> list[URLPattern]:
        patterns: list[URLPattern] = super().get_urls()  # type: ignore[no-untyped-call]
        return [_guarded(pattern) for pattern in patterns if "(?P<token>" not in str(pattern.pattern)]


def _guarded(pattern: URLPattern) -> URLPattern:
    return URLPattern(pattern.pattern, _asking(pattern.callback), pattern.default_args, pattern.name)


def _asking(view: View) -> View:
    """The view, for a user who has the permission. Who is not signed in is left to the view."""

    @wraps(view)
    def asking(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        allowed = permissions.may_view if request.method in SAFE_METHODS else permissions.may_change
        if request.user.is_authenticated and not allowed(request.user):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return asking


def protect(site: admin.AdminSite) -> None:
    """Put this in the place of django-rq's own, if that is there."""
    if site.is_registered(Dashboard):
        site.unregister(Dashboard)
        site.register(Dashboard, DashboardAdmin)
