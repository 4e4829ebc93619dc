"""Health answers and request counts, in front of everything else."""

from __future__ import annotations

import os
import threading
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
STARTED = "/health/started"


class HealthMiddleware:
    """Answers `/health/live`, `/health/ready` and `/health/started`; counts requests and server errors of all others.

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
        members.watch("requests", _under_way.number)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._answer(request)
        answer = _health(request.path_info)
        if answer:
            return answer()
        started = time.perf_counter()
        with _under_way:
            response = self.get_response(request)
        return _counted(response, time.perf_counter() - started)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        answer = _health(request.path_info)
        if answer:
            return await sync_to_async(answer, thread_sensitive=False)()
        started = time.perf_counter()
        with _under_way:
            response = await self.get_response(request)
        return _counted(response, time.perf_counter() - started)


class _UnderWay:
    """How many requests this process is answering. Threads and tasks enter and leave it."""

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        return self._number

    def __enter__(self) -> None:
        with self._lock:
            self._number += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._number -= 1


_under_way = _UnderWay()


def _health(path: str) -> Callable[[], HttpResponseBase] | None:
    return {LIVE: _live, READY: _ready, STARTED: _started}.get(path.removesuffix("/"))


def _live() -> HttpResponseBase:
    return _uncached(JsonResponse({"status": "live"}))


def _ready() -> HttpResponseBase:
    return _readiness(drained_counts=True)


def _started() -> HttpResponseBase:
    return _readiness(drained_counts=False)


def _readiness(*, drained_counts: bool) -> HttpResponseBase:
    is_ready, why = health.readiness(health.probes(), drained_counts=drained_counts)
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
