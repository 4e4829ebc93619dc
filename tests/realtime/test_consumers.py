import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from scaling_kit.realtime import apublish
from scaling_kit.realtime.consumers import RoomConsumer
from tests.realtime.clients import Client, connected, in_a_loop


@pytest.fixture(autouse=True)
def hook() -> Iterator[None]:
    with override_settings(SCALING_KIT_REALTIME_CAN_JOIN="tests.realtime.permissions.can_join"):
        yield


@in_a_loop
async def test_joined__hears_what_is_published() -> None:
    async with connected() as client:
        joined = await client.ask(type="join", room="wall", id=1)
        assert (joined["type"], joined["id"], joined["offset"], joined["recovered"]) == ("joined", 1, 0, False)
        await apublish("wall", "photo.ready", {"id": 7})
        expected = {"type": "event", "room": "wall", "event": "photo.ready", "data": {"id": 7}, "offset": 1}
        assert await client.receive() == expected


@in_a_loop
async def test_back_with_its_position__gets_exactly_what_it_missed() -> None:
    async with connected() as client:
        joined = await client.ask(type="join", room="wall")
        await apublish("wall", "n", 1)
        await client.receive()
    for number in range(2, 252):  # more than a page of history, and more than a queue holds
        await apublish("wall", "n", number)
    async with connected() as client:
        last = {"epoch": joined["epoch"], "offset": 1}
        joined = await client.ask(type="join", room="wall", last=last)
        assert (joined["recovered"], joined["offset"]) == (True, 1)
        assert [(await client.receive())["data"] for _ in range(250)] == list(range(2, 252))
        await apublish("wall", "n", 252)
        assert (await client.receive())["offset"] == 252


@in_a_loop
async def test_history_too_short__not_recovered_and_told_where_the_room_is() -> None:
    async with connected() as client:
        joined = await client.ask(type="join", room="wall")
    with override_settings(SCALING_KIT_REALTIME_HISTORY_SIZE=1):
        for number in range(300):
            await apublish("wall", "n", number)
    async with connected() as client:
        last = {"epoch": joined["epoch"], "offset": 0}
        joined = await client.ask(type="join", room="wall", last=last)
        assert (joined["recovered"], joined["offset"]) == (False, 300)


@in_a_loop
async def test_position_of_another_epoch_or_the_future__not_recovered() -> None:
    async with connected() as client:
        joined = await client.ask(type="join", room="wall")
        for last in ({"epoch": "other", "offset": 0}, {"epoch": joined["epoch"], "offset": 5}):
            assert (await client.ask(type="join", room="wall", last=last))["recovered"] is False


@in_a_loop
async def test_left__hears_no_more() -> None:
    async with connected() as client:
        await client.ask(type="join", room="wall")
        assert await client.ask(type="leave", room="wall", id="x") == {"type": "left", "id": "x", "room": "wall"}
        await apublish("wall", "n", 1)
        assert await client.ask(type="ping", id=3) == {"type": "pong", "id": 3}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "bad_json"),
        ("[" * 60_000, "bad_json"),
        ("[]", "bad_message"),
        ('{"type": "sing"}', "bad_message"),
        ('{"type": "join", "room": 5}', "bad_message"),
        ('{"type": "join", "room": "wall", "last": {"epoch": "a", "offset": -1}}', "bad_message"),
        ('{"type": "join", "room": "wall", "last": {"epoch": "a", "offset": true}}', "bad_message"),
        ('{"type": "join", "room": "wall", "id": {}}', "bad_message"),
        ('{"type": "join"}', "unknown_room"),
        ('{"type": "join", "room": "a b"}', "unknown_room"),
        ('{"type": "join", "room": "nowhere"}', "unknown_room"),
        ('{"type": "join", "room": "private"}', "forbidden"),
        ('{"type": "ping", "x": "' + "x" * 65_536 + '"}', "too_large"),
        ('{"type": "ping", "id": "\\ud800", "last": 1}', "bad_message"),
    ],
)
def test_bad_message__error_and_the_socket_stays_open(text: str, code: str) -> None:
    @in_a_loop
    async def check() -> None:
        async with connected() as client:
            await client.send_text(text)
            error = await client.receive()
            assert (error["type"], error["code"]) == ("error", code)
            assert error["detail"]
            assert await client.ask(type="ping") == {"type": "pong"}

    check()


@in_a_loop
async def test_binary_frame__bad_message() -> None:
    async with connected() as client:
        await client.asgi.send_input({"type": "websocket.receive", "bytes": b"{}"})
        assert (await client.receive())["code"] == "bad_message"


@in_a_loop
async def test_hook_that_fails__unavailable_and_the_socket_stays_open() -> None:
    async with connected() as client:
        error = await client.ask(type="join", room="broken", id=9)
        assert (error["code"], error["id"]) == ("unavailable", 9)
        assert (await client.ask(type="ping"))["type"] == "pong"


@override_settings(SCALING_KIT_REALTIME_CAN_JOIN="")
def test_no_hook__nobody_may_join() -> None:
    @in_a_loop
    async def check() -> None:
        async with connected() as client:
            assert (await client.ask(type="join", room="wall"))["code"] == "forbidden"

    check()


@override_settings(SCALING_KIT_REALTIME_CAN_JOIN="tests.realtime.permissions.can_join_async")
def test_async_hook__decides() -> None:
    @in_a_loop
    async def check() -> None:
        async with connected() as client:
            assert (await client.ask(type="join", room="wall"))["type"] == "joined"
            assert (await client.ask(type="join", room="hall"))["code"] == "forbidden"

    check()


@in_a_loop
async def test_subclass__decides_itself() -> None:
    class Consumer(RoomConsumer):
        async def can_join(self, user: Any, room: str) -> bool:
            return room == "private"

    async with connected(Consumer) as client:
        assert (await client.ask(type="join", room="private"))["type"] == "joined"


@override_settings(SCALING_KIT_REALTIME_ROOMS_PER_SOCKET=2)
def test_too_many_rooms__error() -> None:
    @in_a_loop
    async def check() -> None:
        async with connected() as client:
            kinds = [(await client.ask(type="join", room=room))["type"] for room in ("a", "b", "b", "c")]
            assert kinds == ["joined", "joined", "joined", "error"]

    check()


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ({"user": None}, "not_authenticated"),
        ({"user": None, "auth": {"error": "token_missing"}}, "token_missing"),
        ({"auth": {"error": "token_expired"}}, "token_expired"),
    ],
)
def test_no_valid_token__accepted_then_closed_4401(scope: dict[str, Any], reason: str) -> None:
    @in_a_loop
    async def check() -> None:
        client = Client(**scope)
        await client.connect()
        assert await client.receive() == {"type": "websocket.close", "code": 4401, "reason": reason}

    check()


@override_settings(SCALING_KIT_REALTIME_ALLOW_ANONYMOUS=True)
def test_anonymous_allowed__may_join_but_not_with_a_bad_token() -> None:
    @in_a_loop
    async def check() -> None:
        async with connected(user=None, auth={"error": "token_missing"}) as client:
            assert (await client.ask(type="join", room="wall"))["type"] == "joined"
        client = Client(user=None, auth={"error": "token_expired"})
        await client.connect()
        assert (await client.receive())["code"] == 4401

    check()


@in_a_loop
async def test_token_expires__notice_then_4401() -> None:
    client = Client(auth={"expires_at": time.time() + 0.2, "error": None})
    await client.connect()
    assert (await client.receive())["type"] == "auth.expiring"
    assert await client.receive() == {"type": "websocket.close", "code": 4401, "reason": "token_expired"}


@override_settings(SCALING_KIT_REALTIME_QUEUE_SIZE=5)
def test_client_stops_reading__queue_bounded_and_nothing_lost() -> None:
    """The consumer is driven by hand: `send` waits, as a server's does while the client's window is full."""

    @in_a_loop
    async def check() -> None:
        sent: list[str] = []
        may_send = asyncio.Event()
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.send" and '"event"' in message["text"]:
                await may_send.wait()
                sent.append(message["text"])

        slow = RoomConsumer()
        scope = {"type": "websocket", "headers": [], "subprotocols": ["kit.v1"], "user": Client().asgi.scope["user"]}
        running = asyncio.create_task(slow(scope, inbox.get, send))
        inbox.put_nowait({"type": "websocket.connect"})
        inbox.put_nowait({"type": "websocket.receive", "text": '{"type":"join","room":"wall"}'})
        async with connected() as fast:
            await fast.ask(type="join", room="wall")
            for number in range(50):
                await apublish("wall", "n", number)
            assert [(await fast.receive())["data"] for _ in range(50)] == list(range(50))
            assert slow._socket._frames.qsize() <= 5
            may_send.set()
            while len(sent) < 50:
                await asyncio.sleep(0.01)
        assert [f'"data":{number},' in frame for number, frame in enumerate(sent)] == [True] * 50
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running

    check()
