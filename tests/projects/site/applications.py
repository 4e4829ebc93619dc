import os
from pathlib import Path

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

if (Path(os.environ["RUN_FOLDER"]) / "broken_release").exists():
    raise ImportError("this release is broken")

wsgi = get_wsgi_application()
http = get_asgi_application()


async def asgi(scope, receive, send):
    """Django, and a websocket that says which process it is connected to."""
    if scope["type"] != "websocket":
        return await http(scope, receive, send)
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    return None
