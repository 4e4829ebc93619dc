import asyncio
from pathlib import Path

from channels.layers import get_channel_layer

from scaling_kit import embedded
from scaling_kit.realtime.layer import ResilientPubSubLayer
from scaling_kit.testing import running, start, wait_until
from tests import settings


def layer(url: str = settings.REDIS_URL, **options: object) -> ResilientPubSubLayer:
    return ResilientPubSubLayer(hosts=[{"address": url}], prefix="test", **options)


def test_recipe__gives_this_layer_and_it_delivers() -> None:
    async def check() -> None:
        channels = get_channel_layer()
        assert type(channels) is ResilientPubSubLayer
        name = await channels.new_channel()
        await channels.group_add("wall", name)
        await channels.group_send("wall", {"type": "hello"})
        assert await asyncio.wait_for(channels.receive(name), 5) == {"type": "hello"}

    asyncio.run(check())


def test_consumer_stops_reading__oldest_messages_dropped() -> None:
    async def check() -> None:
        channels = layer(capacity=3)
        slow, fast = await channels.new_channel(), await channels.new_channel()
        for name in (slow, fast):
            await channels.group_add("wall", name)
        for number in range(10):
            await channels.group_send("wall", {"type": "n", "n": number})
            assert (await asyncio.wait_for(channels.receive(fast), 5))["n"] == number
        assert [(await channels.receive(slow))["n"] for _ in range(3)] == [7, 8, 9]

    asyncio.run(check())


def test_redis_killed_and_restarted__hooks_called_and_groups_hear_again(tmp_path: Path) -> None:
    valkey = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port(), persistent=False)
    calls: list[str] = []

    async def note_reconnect() -> None:
        calls.append("reconnected")
        back.set()

    def note_disconnect() -> None:
        calls.append("disconnected")
        away.set()

    async def check() -> None:
        channels = layer(valkey.url, on_disconnect=note_disconnect, on_reconnect=note_reconnect)
        name = await channels.new_channel()
        await channels.group_add("wall", name)
        first.kill()
        first.wait()
        await asyncio.wait_for(away.wait(), 10)
        second = start(valkey)
        try:
            await asyncio.wait_for(back.wait(), 10)
            await channels.group_send("wall", {"type": "hello"})
            assert await asyncio.wait_for(channels.receive(name), 5) == {"type": "hello"}
        finally:
            await channels.flush()
            second.terminate()
            second.wait()

    away, back = asyncio.Event(), asyncio.Event()
    with running(valkey) as first:
        wait_until(valkey.is_ready)
        asyncio.run(check())
    assert calls == ["disconnected", "reconnected"]
