"""`/health/` for people: one word for everyone, the reasons for the staff."""

from __future__ import annotations

import os
from typing import Any

from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from scaling_kit import members
from scaling_kit.cluster import health
from scaling_kit.conf import settings as hall
from scaling_kit.redis import RedisError

HTML, JSON = "text/html", "application/json"
WORDS = {"ready": "All is well", "degraded": "Working, with limits", "unready": "Out of service"}


# Not in a transaction: a database that is away must not take the page with it.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class HealthView(APIView):
    """HTML, or JSON for whoever prefers that. The status is that of `/health/ready`.

    Subclass it to show the details to others: `may_see_details`.
    """

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [*super().get_authenticators(), SessionAuthentication()]

    def perform_authentication(self, request: Request) -> None:
        """Not before it is known that the database answers."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:  # noqa: ARG002
        """Done by `get`, for what is not a response of REST framework."""
        return JSONRenderer(), JSON

    def may_see_details(self, request: Request) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def get(self, request: Request) -> HttpResponse:
        probes = health.probes()
        is_ready, why = health.readiness(probes)
        shown: dict[str, Any] = {"status": why["status"]}
        if self._is_let_in(request, why["checks"]):
            shown |= {"draining": why["draining"], "checks": {probe.name: probe.describe() for probe in probes}}
            shown |= _process() | {"hosts": _hosts()}
        status = 200 if is_ready else 503
        if request.get_preferred_type([HTML, JSON]) == JSON:
            response: HttpResponse = JsonResponse(shown, status=status)
        else:
            page = render_to_string("scaling_kit/cluster/health.html", shown | {"word": _word(shown)})
            response = HttpResponse(page, status=status)
        response["Cache-Control"] = "no-store"
        response["Vary"] = "Accept, Cookie, Authorization"
        return response

    def _is_let_in(self, request: Request, checks: dict[str, str]) -> bool:
        """Nobody while the database is away, where the sessions and users are."""
        if checks["database"] == "failing":
            return False
        try:
            return self.may_see_details(request)
        except Exception:  # whatever the project's authentication raises: then we do not know who it is
            return False


def _word(shown: dict[str, Any]) -> str:
    return "Leaving service" if shown.get("draining") else WORDS[shown["status"]]


def _process() -> dict[str, Any]:
    return {"answered_by": members.member_id(os.getpid()), "release": hall.RELEASE}


def _hosts() -> dict[str, dict[str, int]] | None:
    """Host → role → processes; None if Redis does not say."""
    hosts: dict[str, dict[str, int]] = {}
    try:
        health.check_redis()  # the rest waits for seconds if it hangs
        for record in members.fetch_members():
            roles = hosts.setdefault(record["host"], {})
            roles[record["role"]] = roles.get(record["role"], 0) + 1
    except RedisError:
        return None
    return hosts
