"""constance's page in the admin, which records who made a change; and the history, to read only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from scaling_kit.cluster import live_entries, live_store
from scaling_kit.cluster.models import LiveChange


class LiveChangeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("at", "name", "old_value", "new_value", "by", "origin")
    list_filter = ("name",)
    search_fields = ("by",)
    ordering = ("-id",)

    @admin.display(description="old")
    def old_value(self, change: LiveChange) -> str:
        return repr(live_store.readable(change.old))

    @admin.display(description="new")
    def new_value(self, change: LiveChange) -> str:
        return repr(live_store.readable(change.new))

    def has_add_permission(self, *_: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        return False


def _replace_page_of_constance() -> None:
    """Unless the project has put one of its own there."""
    from constance.admin import Config, ConstanceAdmin

    class LiveSettingsAdmin(ConstanceAdmin):  # type: ignore[misc]
        def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            with live_store.acting(request.user.get_username()):
                response: HttpResponseBase = super().changelist_view(request, *args, **kwargs)
                return response

    if type(admin.site._registry.get(Config)) is ConstanceAdmin:
        admin.site.unregister([Config])
        admin.site.register([Config], LiveSettingsAdmin)


if live_entries.is_on():
    admin.site.register(LiveChange, LiveChangeAdmin)
    _replace_page_of_constance()
