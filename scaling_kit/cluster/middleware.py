"""Health answers and request counts, in front of everything else."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from scaling_kit import members
from scaling_kit.cluster import health, latency
from scaling_kit.cluster.conf import settings

LIVE = "/health/live"
READY = "/health/ready"


class HealthMiddleware:
    """Answers `/health/live` and `/health/ready`; counts requests and server errors of all others.

    The first in MIDDLEWARE: a balancer's probe carries an address as its Host, which ALLOWED_HOSTS would refuse, and
    speaks plain HTTP, which SECURE_SSL_REDIRECT would send away.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._answer(request)
        answer = _health(request.path_info)
        if answer:
            return answer()
        started = time.perf_counter()
        response = self.get_response(request)
        return _counted(response, time.perf_counter() - started)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        answer = _health(request.path_info)
        if answer:
            return await sync_to_async(answer, thread_sensitive=False)()
        started = time.perf_counter()
        response = await self.get_response(request)
        return _counted(response, time.perf_counter() - started)


def _health(path: str) -> Callable[[], HttpResponseBase] | None:
    return {LIVE: _live, READY: _ready}.get(path.removesuffix("/"))


def _live() -> HttpResponseBase:
    return _uncached(JsonResponse({"status": "live"}))


def _ready() -> HttpResponseBase:
    is_ready, why = health.readiness()
    return _uncached(JsonResponse(why, status=200 if is_ready else 503))


def _uncached(response: HttpResponseBase) -> HttpResponseBase:
    response["Cache-Control"] = "no-store"
    return response


def _counted(response: HttpResponseBase, seconds: float) -> HttpResponseBase:
    names = ("web.requests", latency.bucket_of(seconds))
    members.count_each(*names, *(("web.errors",) if response.status_code >= 500 else ()))
    members.count(latency.MILLISECONDS, round(seconds * 1000))
    if settings.SERVED_BY:
        response["X-Served-By"] = members.member_id(os.getpid())
    return response
