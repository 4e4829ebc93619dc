"""Authentication of websockets, as plain ASGI middleware: `TokenAuthMiddleware(application)`.

Browsers cannot set headers on a websocket, and a token in the URL ends up in logs. So the client offers two
subprotocols, `kit.v1` and `bearer.<access token>`, and the application accepts `kit.v1`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import close_old_connections

from scaling_kit.tokens.access import AccessToken
from scaling_kit.tokens.authentication import authenticate
from scaling_kit.tokens.refusals import Refusal
from scaling_kit.tokens.users import TokenUser

BEARER = "bearer."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class TokenAuthMiddleware:
    """Sets `scope["user"]` to a `TokenUser` or an `AnonymousUser`, and `scope["auth"]` to

    `{"expires_at": seconds since 1970 | None, "sid": str | None, "error": None | a code of refusals.REASONS}`.

    It refuses nobody: what a socket without a valid token may do is for the application to say. The token is taken
    out of `scope["subprotocols"]`, so that none can be accepted, and thereby echoed, by mistake.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope = {**scope, **await _authenticated(scope.get("subprotocols", []))}
        await self.application(scope, receive, send)


async def _authenticated(subprotocols: list[str]) -> Scope:
    offered = [name for name in subprotocols if not name.startswith(BEARER)]
    tokens = [name.removeprefix(BEARER) for name in subprotocols if name.startswith(BEARER)]
    return {**await _identity(tokens), "subprotocols": offered}


async def _identity(tokens: list[str]) -> Scope:
    if not tokens:
        return _anonymous("token_missing")
    try:
        # In a thread of the pool: Redis is asked by the same blocking client that web requests use, for 0.1 s at most.
        user, token = await sync_to_async(_authenticate, thread_sensitive=False)(tokens[0])
    except Refusal as refusal:
        return _anonymous(refusal.code)
    return {"user": user, "auth": {"expires_at": token.expires_at, "sid": token.session_id, "error": None}}


def _anonymous(error: str) -> Scope:
    return {"user": AnonymousUser(), "auth": {"expires_at": None, "sid": None, "error": error}}


def _authenticate(raw: str) -> tuple[TokenUser, AccessToken]:
    try:
        return authenticate(raw)
    finally:
        close_old_connections()  # the database is asked when Redis lost its data
