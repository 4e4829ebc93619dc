"""The ASGI application of the tests: `?user=ann&expires_in=2` says who connects, as a token would."""

import os
import time
from typing import Any
from urllib.parse import parse_qs

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.realtime.settings"

import django

django.setup()

from scaling_kit.realtime.consumers import RoomConsumer  # noqa: E402
from scaling_kit.realtime.origins import OriginValidator  # noqa: E402


class User:
    is_authenticated = True


class Identity:
    """Stands for TokenAuthMiddleware."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode())
        expires_in = query.get("expires_in")
        user = User() if "user" in query else None
        auth = {
            "expires_at": time.time() + float(expires_in[0]) if expires_in else None,
            "sid": None,
            "error": None if user else "token_missing",
        }
        await self.application({**scope, "user": user, "auth": auth}, receive, send)


websocket = OriginValidator(Identity(RoomConsumer.as_asgi()))


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
