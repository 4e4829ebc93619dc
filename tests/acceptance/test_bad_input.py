"""Whatever a client sends wrongly is a 4xx with a code and words, never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.acceptance.demo import Demo
from tests.acceptance.wall import Person, feed, picture

pytestmark = pytest.mark.xdist_group("demo")  # one running demo for all of them


UNKNOWN = "00000000-0000-4000-8000-000000000000"
JPEG = {"name": "a.jpg", "size": 1000, "type": "image/jpeg"}


@pytest.fixture(scope="module")
def ada(demo: Demo) -> Iterator[Person]:
    with closing(Person(demo.url, "ada")) as person:
        yield person


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/api/uploads/", {**JPEG, "type": "image/svg+xml"}, 400, None),
        ("POST", "/api/uploads/", {**JPEG, "size": 10**12}, 400, None),
        ("POST", "/api/uploads/", {**JPEG, "size": -1}, 400, None),
        ("POST", "/api/uploads/", {"name": "a.jpg"}, 400, None),
        ("POST", "/api/uploads/", [], 400, None),
        ("POST", f"/api/uploads/{UNKNOWN}/complete/", {}, 404, None),
        ("POST", "/api/uploads/not-an-id/complete/", {}, 404, None),
        ("GET", "/api/photos/999999/", None, 404, "not_found"),
        ("GET", "/api/photos/abc/", None, 404, "not_found"),
        ("POST", "/api/photos/999999/like/", {}, 404, "not_found"),
        ("GET", "/api/feed/?cursor=nonsense", None, 404, "not_found"),
        ("PATCH", "/api/feed/", {}, 405, "method_not_allowed"),
        ("POST", "/api/token/", {"username": "ada"}, 400, None),
        ("POST", "/api/token/", {"username": "ada", "password": "wrong"}, 401, None),
        ("POST", "/api/token/refresh/", {"refresh": "x"}, 401, None),
        ("POST", "/api/token/refresh/", {}, 400, None),
    ],
)
def test_wrong_request__is_refused_with_a_code(
    ada: Person, method: str, path: str, body: Any, status: int, code: str | None
) -> None:
    answer = ada.http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    refusal = answer.json()
    assert refusal["detail"]
    assert refusal["code"] == (code or refusal["code"])


@pytest.mark.parametrize("path", ["/api/uploads/", "/api/token/", "/api/token/refresh/"])
def test_malformed_json__is_refused(ada: Person, path: str) -> None:
    answer = ada.http.post(path, content=b'{"name": ', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"]
    assert "JSON" in answer.text


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e30.e30.", "\x7f", "A" * 20_000])
def test_bad_token__is_401(demo: Demo, token: str) -> None:
    answer = httpx.get(demo.url + "api/me/", headers={"Authorization": f"Bearer {token}".strip()})
    assert answer.status_code in (400, 401), "nginx refuses what is no header at all"
    if answer.status_code == 401:
        assert answer.json()["code"]


def test_upload_of_someone_else__is_unknown(demo: Demo, ada: Person) -> None:
    content = picture()
    intent = ada.announce("Mine", content)
    ada.send(intent, content).raise_for_status()
    with closing(Person(demo.url, "grace")) as grace:
        assert grace.complete(intent).status_code == 404
    assert ada.complete(intent).status_code == 200
    assert ada.complete(intent).status_code == 409, "a second time"


def test_object_other_than_announced__is_refused_and_nothing_shows(ada: Person) -> None:
    content = picture()
    intent = ada.announce("Not what it says", content)
    assert ada.send(intent, content + b"more").status_code == 403, "S3 checks the signed length"
    assert ada.complete(intent).status_code == 409, "nothing is there"
    disguised = b"<html>" + content[6:]
    ada.send(intent, disguised).raise_for_status()
    refused = ada.complete(intent)
    assert refused.status_code in (400, 422)
    assert refused.json()["code"]
    assert "Not what it says" not in {photo["title"] for photo in feed(ada.http).json()["results"]}


def test_websocket_without_a_token__is_closed_with_4401(demo: Demo) -> None:
    with (
        connect(demo.websocket_url, subprotocols=["kit.v1"], origin=demo.url.rstrip("/")) as socket,
        pytest.raises(ConnectionClosed) as caught,
    ):
        socket.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


def test_websocket_from_another_origin__is_refused(demo: Demo, ada: Person) -> None:
    protocols = ["kit.v1", f"bearer.{ada.access}"]
    with pytest.raises(InvalidStatus) as caught:
        connect(demo.websocket_url, subprotocols=protocols, origin="http://evil.example")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ('{"type": "join", "room": "nowhere", "id": 1}', None),
        ('{"type": "join", "room": 7, "id": 1}', "bad_message"),
        ('{"type": "dance"}', "bad_message"),
        ("[]", "bad_message"),
        ("{", "bad_json"),
    ],
)
def test_wrong_websocket_message__is_answered_and_the_socket_stays(ada: Person, sent: str, code: str | None) -> None:
    with ada.listening() as listener:
        listener.socket.send(sent)
        error = listener.wait_for(lambda message: message["type"] == "error")
        assert error["code"] in ([code] if code else ["forbidden", "unknown_room"])
        listener.join("wall", 2)
