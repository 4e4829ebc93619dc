import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from scaling_kit import embedded
from scaling_kit.realtime import apublish, hub, publish, rooms
from scaling_kit.realtime.audience import Member
from scaling_kit.realtime.hub import Hub
from scaling_kit.redis import Purpose, client
from scaling_kit.testing import running
from tests.realtime.clients import in_a_loop


class Outlet:
    def __init__(self) -> None:
        self.frames: asyncio.Queue[str] = asyncio.Queue()

    def offer(self, frame: str) -> bool:
        self.frames.put_nowait(frame)
        return True

    async def put(self, frame: str) -> None:
        await self.frames.put(frame)

    async def next(self) -> str:
        return await asyncio.wait_for(self.frames.get(), 5)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    server = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port(), persistent=False)
    with running(server) as process, override_settings(SCALING_KIT_REALTIME_REDIS_URL=server.url):
        yield process


async def joined(room: str = "wall") -> tuple[Member, Outlet]:
    outlet = Outlet()
    member = await Hub.of_this_loop().join(room, outlet, None)
    member.follow()
    return member, outlet


def subscribers(room: str = "wall") -> int:
    [(_, number)] = client(Purpose.SCRIPT).pubsub_numsub(rooms.channel(room))  # type: ignore[misc,attr-defined]
    return int(number)


async def until(condition: object, expected: object) -> None:
    async with asyncio.timeout(5):
        while condition() != expected:  # type: ignore[operator]
            await asyncio.sleep(0.01)


@in_a_loop
async def test_many_members__one_subscription_that_ends_with_the_last() -> None:
    members = [(await joined())[0] for _ in range(5)]
    other, _ = await joined("hall")
    assert subscribers() == 1
    for member in members:
        Hub.of_this_loop().leave(member)
    await until(subscribers, 0)
    Hub.of_this_loop().leave(other)


@in_a_loop
async def test_everybody_left_and_someone_joins__heard_again() -> None:
    for _ in range(3):
        member, outlet = await joined()
        await apublish("wall", "n", 1)
        assert '"event"' in await outlet.next()
        Hub.of_this_loop().leave(member)


@in_a_loop
async def test_published_while_members_join__each_gets_all_from_its_position_on() -> None:
    publishing = asyncio.create_task(asyncio.to_thread(lambda: [publish("wall", "n", n) for n in range(300)]))
    for _ in range(20):
        member, outlet = await joined()
        start = member.position.offset
        for offset in range(start + 1, min(start + 6, 301)):
            assert (await outlet.next()).endswith(f'"offset":{offset}}}')
        Hub.of_this_loop().leave(member)
    await publishing


@in_a_loop
async def test_redis_hangs__given_up_and_found_again(
    own_valkey: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENCE_SECONDS", 0.1)
    member, outlet = await joined()
    connection = Hub.of_this_loop()._pubsub
    await asyncio.sleep(0.5)
    assert Hub.of_this_loop()._pubsub is connection  # silence alone is no reason: the pings were answered
    own_valkey.send_signal(signal.SIGSTOP)
    await until(lambda: Hub.of_this_loop()._pubsub, None)
    own_valkey.send_signal(signal.SIGCONT)
    await apublish("wall", "n", 1)
    assert '"data":1' in await outlet.next()
    Hub.of_this_loop().leave(member)


@in_a_loop
async def test_connection_cut__what_was_published_meanwhile_is_read(own_valkey: subprocess.Popen[bytes]) -> None:
    member, outlet = await joined()
    for round_ in range(5):
        client(Purpose.SCRIPT, hub.settings.REDIS_URL).client_kill_filter(_type="pubsub")
        await apublish("wall", "n", round_)
        assert f'"data":{round_}' in await outlet.next()
    Hub.of_this_loop().leave(member)
