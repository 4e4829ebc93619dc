"""Which pages may open a websocket: browsers send their origin, and do not hold back cookies from other sites."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.http.request import split_domain_port, validate_host

from scaling_kit.realtime.conf import settings

logger = logging.getLogger(__name__)

ASGIApplication = Callable[[Mapping[str, Any], Any, Any], Awaitable[None]]
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PAGE_SCHEMES = {"ws": "http", "wss": "https"}


class OriginValidator:
    """ASGI middleware that refuses websockets of foreign pages with HTTP 403, before they are accepted.

    Allowed are the site's own origin (scheme, host and port as the request came in; the host must be in
    ALLOWED_HOSTS), those in SCALING_KIT_REALTIME_ORIGINS, and clients that send no origin, which no browser does,
    if they offer a token.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or is_allowed(scope):
            await self.application(scope, receive, send)
            return
        logger.warning("websocket refused origin=%r host=%r", _header(scope, b"origin"), _header(scope, b"host"))
        await receive()  # websocket.connect
        await _refuse(scope, send)


def is_allowed(scope: Mapping[str, Any]) -> bool:
    origin = _header(scope, b"origin")
    if not origin:
        return any(offered.startswith("bearer.") for offered in scope.get("subprotocols", ()))
    page = parse_origin(origin)
    return page is not None and (page == _own_origin(scope) or page in map(parse_origin, settings.ORIGINS))


def parse_origin(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin, or None if it is none: "null", a path, a wildcard, a bad port."""
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    is_bare = origin.lower() == f"{parts.scheme}://{parts.netloc}".lower() and "@" not in parts.netloc
    if not is_bare or not parts.hostname or "*" in parts.hostname:
        return None
    return parts.scheme, parts.hostname, port


def _own_origin(scope: Mapping[str, Any]) -> tuple[str, str, int] | None:
    host = _header(scope, b"host")
    if not validate_host(split_domain_port(host)[0], _allowed_hosts()):
        return None
    scheme = scope.get("scheme", "ws")
    return parse_origin(f"{PAGE_SCHEMES.get(scheme, scheme)}://{host}")


def _allowed_hosts() -> list[str]:
    """As Django has it: while developing, an empty list means this machine."""
    if django_settings.DEBUG and not django_settings.ALLOWED_HOSTS:
        return [".localhost", "127.0.0.1", "[::1]"]
    return list(django_settings.ALLOWED_HOSTS)


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")


async def _refuse(scope: Mapping[str, Any], send: Any) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 4403, "reason": "origin_not_allowed"})
        return
    detail = "Pages of this origin may not connect; see SCALING_KIT_REALTIME_ORIGINS."
    body = json.dumps({"code": "origin_not_allowed", "detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
