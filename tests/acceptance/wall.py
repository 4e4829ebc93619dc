"""A client of the running photo wall, as its users' browsers are: HTTP, S3 and websockets, nothing else."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from PIL import Image, ImageDraw
from websockets.sync.client import ClientConnection, connect

from scaling_kit.testing import wait_until


class Person:
    """Someone who is signed in."""

    def __init__(self, url: str, username: str, password: str = "demo") -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30)
        tokens = self.http.post("/api/token/", json={"username": username, "password": password}).raise_for_status()
        self.access = tokens.json()["access"]
        self.refresh = tokens.json()["refresh"]
        self.http.headers["Authorization"] = f"Bearer {self.access}"
        self.id = self.http.get("/api/me/").raise_for_status().json()["id"]

    def put_up(self, title: str, content: bytes) -> int:
        """Upload a photo directly to S3, complete it, and return its id."""
        return int(self.upload(title, content)["photo"])

    def upload(self, title: str, content: bytes) -> dict[str, Any]:
        """The same; return what the server says of it, with the ids of the photo and of its job."""
        intent = self.announce(title, content)
        self.send(intent, content).raise_for_status()
        completed: dict[str, Any] = self.complete(intent).raise_for_status().json()
        return completed

    def announce(self, title: str, content: bytes) -> dict[str, Any]:
        body = {"name": f"{title}.jpg", "size": len(content), "type": "image/jpeg", "metadata": {"title": title}}
        intent: dict[str, Any] = self.http.post("/api/uploads/", json=body).raise_for_status().json()
        return intent

    def send(self, intent: dict[str, Any], content: bytes) -> httpx.Response:
        return httpx.put(httpx.URL(self.url).join(intent["url"]), content=content, headers=intent["headers"])

    def complete(self, intent: dict[str, Any]) -> httpx.Response:
        return self.http.post(f"/api/uploads/{intent['id']}/complete/", json={})

    def close(self) -> None:
        self.http.close()

    @contextmanager
    def listening(self, *rooms: str) -> Iterator[Listener]:
        """A websocket that has joined these rooms."""
        address = self.url.replace("http", "ws", 1).rstrip("/") + "/ws/"
        with connect(address, subprotocols=["kit.v1", f"bearer.{self.access}"], origin=self.url.rstrip("/")) as socket:
            listener = Listener(socket)
            for number, room in enumerate(rooms, start=1):
                listener.join(room, number)
            yield listener


class Listener:
    """A websocket, and everything it has heard."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    def join(self, room: str, number: int) -> None:
        self.socket.send(json.dumps({"type": "join", "room": room, "id": number, "last": None}))
        self.wait_for(lambda message: message["type"] == "joined" and message["room"] == room)

    def event(self, name: str, *, timeout: float = 15, **data: Any) -> dict[str, Any]:
        """Wait for an event whose data contain `data`, unless it has been heard already; return the data."""
        message = self.wait_for(
            lambda message: message.get("event") == name and data.items() <= message["data"].items(), timeout=timeout
        )
        found: dict[str, Any] = message["data"]
        return found

    def wait_for(self, matches: Any, *, timeout: float = 15) -> dict[str, Any]:
        for message in self.heard:
            if matches(message):
                return message
        while True:
            message = json.loads(self.socket.recv(timeout=timeout))
            self.heard.append(message)
            if matches(message):
                return message


def picture(size: tuple[int, int] = (640, 480)) -> bytes:
    """A JPEG that nobody has uploaded before."""
    image = Image.effect_noise(size, 60).convert("RGB") if size[0] > 2000 else Image.new("RGB", size, "#e4572e")
    ImageDraw.Draw(image).text((20, 20), uuid.uuid4().hex, fill="white")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def feed(http: httpx.Client) -> httpx.Response:
    return http.get("/api/feed/").raise_for_status()


def members(http: httpx.Client, role: str) -> list[dict[str, Any]]:
    """The live processes of a role, as any web process tells."""
    view = http.get("/api/cluster/").raise_for_status().json()
    return [{**member, **member["info"]} for member in view["members"] if member["role"] == role]


def leader(http: httpx.Client) -> dict[str, Any]:
    """The process that leads the schedulers; waits while nobody does."""

    def find() -> dict[str, Any] | None:
        view = http.get("/api/cluster/").raise_for_status().json()
        leading = view["apps"]["scaling_kit_scheduler"]["snapshot"]["leader"]
        return next((member for member in view["members"] if member["id"] == leading), None)

    found = wait_until(find, timeout_seconds=20, what="a leader")
    assert found is not None
    return found


def wait_until_shown(http: httpx.Client, photo: int, *, timeout_seconds: float = 30) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        return next((shown for shown in feed(http).json()["results"] if shown["id"] == photo), None)

    found = wait_until(find, timeout_seconds=timeout_seconds, what=f"photo {photo} in the feed")
    assert found is not None
    return found
