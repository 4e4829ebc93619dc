"""For `actions` of a ModelAdmin: `actions = [invalidate_selected]`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from scaling_kit.cache import drops, tags

MOST_INSTANCES = 100


@admin.action(description=gettext_lazy("Forget cached responses of these"), permissions=["change"])
def invalidate_selected(modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]) -> None:
    """For rows that were changed behind Django's back. Whoever may change them may do it: saving one does no less.

    Of more than 100 rows the whole model is forgotten.
    """
    selected = list(queryset[: MOST_INSTANCES + 1])
    if drops.drop(tags.of(*(selected if len(selected) <= MOST_INSTANCES else [queryset.model]))):
        modeladmin.message_user(request, f"Forgotten: {queryset.model._meta.label}.", messages.SUCCESS)
    else:
        modeladmin.message_user(
            request, "Redis has not taken it; it is sent again as soon as Redis does.", messages.ERROR
        )
