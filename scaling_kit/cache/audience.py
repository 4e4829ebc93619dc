"""Who asks, and for what: the parts of a request that make the address of its response."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

# Pages for humans, with forms, tokens and the user's name.
RENDERERS_FOR_HUMANS = {"api", "admin"}
LONGEST_QUERY = 2000


def view_of(request: Request) -> APIView:
    view: APIView = request.parser_context["view"]
    return view


def user(request: Request) -> list[Any]:
    """The user, and whatever was loaded with them.

    That was read before the entry's sequence, so it must not merely be depended on: a name that has changed since
    makes another address. Empty if the user cannot be told from others.
    """
    user = request.user
    if not getattr(user, "is_authenticated", False):
        return ["anonymous"]
    if getattr(user, "pk", None) is None:
        return []
    kind = f"{user.__class__.__module__}.{user.__class__.__qualname__}"
    return [kind, user.pk, _row(user) if isinstance(user, Model) else None]


def _row(instance: Model) -> list[tuple[str, Any]]:
    deferred = instance.get_deferred_fields()
    fields = instance._meta.concrete_fields
    return [(field.attname, getattr(instance, field.attname)) for field in fields if field.attname not in deferred]


def has_object_permissions(view: APIView) -> bool:
    """May this view refuse one object to one user? That check does not run on a hit."""
    if getattr(view, "detail", None) is False:
        return False
    ours = BasePermission.has_object_permission
    return any(
        getattr(type(permission), "has_object_permission", ours) is not ours for permission in view.get_permissions()
    )


def subject(request: Request) -> list[Any]:
    """What is asked for, besides the query parameters."""
    renderer = request.accepted_renderer
    return [
        request.scheme,
        request.get_host(),  # in the links of paginated and hyperlinked answers
        request.path,
        sorted(view_of(request).kwargs.items(), key=str),
        [renderer.format, request.accepted_media_type],
        request.version,
    ]


def reason_to_bypass(request: Request) -> str:
    """Why the answer to this request cannot be found by its address; empty if it can."""
    if request.META.get("CONTENT_LENGTH") not in (None, "", "0"):
        return "body"
    if len(request.META.get("QUERY_STRING", "")) > LONGEST_QUERY:
        return "query"
    if request.accepted_renderer.format in RENDERERS_FOR_HUMANS:
        return "renderer"
    return ""
