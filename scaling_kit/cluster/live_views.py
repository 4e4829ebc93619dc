"""The run-time settings for the staff: `GET` with history, `PATCH {"NAME": value, ...}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from scaling_kit import staff
from scaling_kit.cluster import live_entries, live_store
from scaling_kit.cluster.live import live
from scaling_kit.permissions import Permissions

HISTORY = 50


@dataclass(frozen=True, kw_only=True)
class ConstancePermissions(Permissions):
    """As on constance's page: superusers only, unless CONSTANCE_SUPERUSER_ONLY is False."""

    def may_view(self, user: Any) -> bool:
        return super().may_view(user) and _is_let_in(user)

    def may_change(self, user: Any) -> bool:
        return super().may_change(user) and _is_let_in(user)


def _is_let_in(user: Any) -> bool:
    return bool(user.is_superuser) or not getattr(django_settings, "CONSTANCE_SUPERUSER_ONLY", True)


SETTINGS = ConstancePermissions(view="constance.view_config", change="constance.change_config")


class RefusedError(staff.RefusedError):
    refusals = {
        **staff.REFUSALS,
        "settings_off": (404, "Run-time settings are off: constance is not installed."),
        "setting_unknown": (400, "There is no such setting."),
        "setting_invalid": (400, "Nothing was changed: see `fields`."),
    }


class SettingsView(staff.StaffView):
    """What is changed together is changed as a whole or not at all."""

    permissions = SETTINGS

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not live_entries.is_on():
            raise RefusedError("settings_off")

    def get(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        if name and name not in live_entries.entries():
            raise RefusedError("setting_unknown")
        return Response(self._answer(request, name))

    def patch(self, request: Request) -> Response:
        values = _values(request.data)
        with transaction.atomic(using=live_store.database()):
            for name in sorted(values):  # in one order, so that two requests never wait for each other
                live.change(name, values[name], by=request.user.get_username())
        return Response(self._answer(request))

    def _answer(self, request: Request, name: str = "") -> dict[str, Any]:
        found = live_store.fetch()
        return {
            "settings": [
                {
                    "name": entry.name,
                    "value": found[entry.name],
                    "default": entry.default,
                    "type": entry.type_name,
                    "help": entry.help,
                }
                for entry in live_entries.entries().values()
                if name in ("", entry.name)
            ],
            "history": live_store.fetch_history(name, limit=HISTORY),
            "may_change": self.permissions.may_change(request.user),
        }


def _values(sent: Any) -> dict[str, Any]:
    if not isinstance(sent, Mapping) or not sent:
        raise RefusedError("request_invalid", 'Send {"NAME": value, ...}.')
    entries = live_entries.entries()
    unknown = [name for name in sent if name not in entries]
    if unknown:
        raise RefusedError("setting_unknown", str(live_entries.unknown(unknown[0])))
    values: dict[str, Any] = {}
    wrong: dict[str, list[str]] = {}
    for name, given in sent.items():
        try:
            values[name] = live_entries.parse(entries[name], given)
        except ValidationError as error:
            wrong[name] = error.messages
    if wrong:
        raise RefusedError("setting_invalid", fields=wrong)
    return values
