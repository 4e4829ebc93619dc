"""The page to look at the cache, and the REST API under it. Every refusal is `{"code": ..., "detail": ...}`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scaling_kit import staff
from scaling_kit.cache import drops, permissions, status, tags
from scaling_kit.cache.refusals import RefusedError
from scaling_kit.staff import validated


class CachePage(staff.StaffPage):
    permissions = permissions.ENTRIES
    template_name = "scaling_kit/cache/page.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(models=drops.labels(), **kwargs)


class CacheView(staff.StaffView):
    """What the views of this API have in common."""

    permissions = permissions.ENTRIES

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        status.ensure_answers()


class StatusView(CacheView):
    def get(self, _request: Request) -> Response:
        found = status.snapshot()
        if not found["reachable"]:
            raise RefusedError("redis_unavailable", found["error"])
        return Response(found)


class Drop(serializers.Serializer[Any]):
    """What is to be forgotten: one of these."""

    model = serializers.CharField(required=False, max_length=200)
    name = serializers.CharField(required=False, max_length=500)
    view = serializers.CharField(required=False, max_length=500)
    everything = serializers.BooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        named = {what: value for what, value in attrs.items() if value}
        if len(named) != 1:
            raise serializers.ValidationError("Say one of model, name, view, everything.")
        return named


class DropView(CacheView):
    def post(self, request: Request) -> Response:
        [(kind, what)] = validated(Drop, request.data).items()
        dropped = _tags(kind, what)
        if not drops.drop(dropped):
            raise RefusedError("not_taken")
        return Response({"dropped": what if kind != "everything" else kind, "tags": sorted(dropped)})


def _tags(kind: str, what: Any) -> set[str]:
    if kind == "everything":
        return {tags.EPOCH}
    if kind == "name":
        return tags.of(what)
    if kind == "view":
        return {tags.of_view(_known_view(what))}
    try:
        return tags.of(drops.model(what))
    except drops.UnknownModelError as error:
        raise RefusedError("model_unknown", str(error)) from error


def _known_view(family: str) -> str:
    if family not in status.fetch_families():
        raise RefusedError("view_unknown")
    return family
