"""Websockets: the application of the websocket processes. It answers HTTP too, where no proxy stands in front."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
http_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402  (after the settings)
from django.urls import path  # noqa: E402

from scaling_kit.realtime.consumers import RoomConsumer  # noqa: E402
from scaling_kit.realtime.origins import OriginValidator  # noqa: E402
from scaling_kit.tokens.websocket import TokenAuthMiddleware  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": OriginValidator(TokenAuthMiddleware(URLRouter([path("ws/", RoomConsumer.as_asgi())]))),
    }
)
