"""Rooms over several real processes: two websocket workers, publishers elsewhere, a Redis that is killed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scaling_kit import embedded
from scaling_kit.testing import running, start, wait_until
from tests import settings
from tests.realtime.servers import gunicorn, gunicorn_process, publish_elsewhere, sockets

BEARER = ["kit.v1", "bearer.x"]


@pytest.fixture
def server(keys_of_one_test: str) -> Iterator[str]:
    with gunicorn(settings.REDIS_URL, keys_of_one_test) as url:
        yield url


async def joined(url: str, room: str = "wall", last: Any = None) -> tuple[ClientConnection, dict[str, Any]]:
    client = await connect(f"{url}?user=ann", subprotocols=BEARER)  # type: ignore[arg-type]
    assert client.subprotocol == "kit.v1"
    await client.send(json.dumps({"type": "join", "room": room, "last": last}))
    return client, await receive(client)


async def receive(client: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(await asyncio.wait_for(client.recv(), 10)))


async def numbers(client: ClientConnection, count: int) -> list[int]:
    return [(await receive(client))["data"] for _ in range(count)]


def test_published_elsewhere__reaches_the_sockets_of_all_workers(keys_of_one_test: str) -> None:
    async def check(url: str, server: psutil.Process) -> None:
        clients = [(await joined(url))[0] for _ in range(6)]
        async with asyncio.timeout(20):
            while len(server.children()) < 2 or not all(map(sockets, server.children())):
                clients.append((await joined(url))[0])
        publisher = publish_elsewhere(settings.REDIS_URL, keys_of_one_test, "wall", range(20))
        for client in clients:
            assert await numbers(client, 20) == list(range(20))
        assert publisher.wait() == 0
        for client in clients:
            await client.close()

    with gunicorn_process(settings.REDIS_URL, keys_of_one_test) as (url, server):
        asyncio.run(check(url, server))


def test_flaky_clients__each_gets_every_event_once_and_in_order(server: str, keys_of_one_test: str) -> None:
    async def flaky() -> list[int]:
        client, first = await joined(server)
        position, seen = {"epoch": first["epoch"], "offset": first["offset"]}, []
        ready.release()
        while len(seen) < 100:
            message = await receive(client)
            seen.append(message["data"])
            position["offset"] = message["offset"]
            if len(seen) % 17 == 0:
                await client.close()
                client, again = await joined(server, last=position)
                assert again["recovered"] is True
        await client.close()
        return seen

    async def check() -> None:
        clients = [asyncio.create_task(flaky()) for _ in range(6)]
        for _ in clients:
            await ready.acquire()
        publisher = publish_elsewhere(settings.REDIS_URL, keys_of_one_test, "wall", range(100))
        for seen in await asyncio.gather(*clients):
            assert seen == list(range(100))
        assert publisher.wait() == 0

    ready = asyncio.Semaphore(0)
    asyncio.run(check())


def test_worker_killed__its_clients_go_elsewhere_and_lose_nothing(keys_of_one_test: str) -> None:
    async def stubborn(url: str) -> tuple[list[int], int]:
        client, first = await joined(url)
        position, seen, losses = {"epoch": first["epoch"], "offset": first["offset"]}, [], 0
        ready.release()
        while len(seen) < 100:
            try:
                message = await receive(client)
            except ConnectionClosed:
                losses += 1
                client, again = await joined(url, last=position)
                assert again["recovered"] is True
                continue
            seen.append(message["data"])
            position["offset"] = message["offset"]
            half_way.release()
        await client.close()
        return seen, losses

    async def check(url: str, server: psutil.Process) -> None:
        clients = [asyncio.create_task(stubborn(url)) for _ in range(8)]
        for _ in clients:
            await ready.acquire()
        publisher = publish_elsewhere(settings.REDIS_URL, keys_of_one_test, "wall", range(100))
        for _ in range(50 * len(clients)):
            await half_way.acquire()
        max(server.children(), key=sockets).kill()
        results = await asyncio.gather(*clients)
        assert publisher.wait() == 0
        assert [seen for seen, _ in results] == [list(range(100))] * len(clients)
        assert sum(losses for _, losses in results) > 0

    ready, half_way = asyncio.Semaphore(0), asyncio.Semaphore(0)
    with gunicorn_process(settings.REDIS_URL, keys_of_one_test) as (url, server):
        asyncio.run(check(url, server))


def test_redis_killed_and_restarted__sockets_stay_and_nothing_is_lost(tmp_path: Path) -> None:
    valkey = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port())

    async def check(url: str) -> None:
        clients = [(await joined(url))[0] for _ in range(6)]
        publisher = publish_elsewhere(valkey.url, "sk", "wall", range(150))
        assert await numbers(clients[0], 20) == list(range(20))
        first.kill()
        first.wait()
        refused, error = await joined(url, "hall")
        assert error["code"] == "unavailable"
        second = start(valkey)
        try:
            wait_until(valkey.is_ready)
            assert await numbers(clients[0], 130) == list(range(20, 150))
            for client in clients[1:]:
                assert await numbers(client, 150) == list(range(150))
            assert publisher.wait() == 0
            for client in [*clients, refused]:
                await client.close()
        finally:
            second.terminate()
            second.wait()

    with running(valkey) as first, gunicorn(valkey.url, "sk") as url:
        asyncio.run(check(url))


def test_redis_loses_its_data__the_gap_is_announced(tmp_path: Path) -> None:
    valkey = embedded.Valkey(folder=tmp_path / "valkey", port=embedded.free_port(), persistent=False)

    async def check(url: str) -> None:
        client, before = await joined(url)
        first.kill()
        first.wait()
        second = start(valkey)
        try:
            gap = await receive(client)
            assert (gap["type"], gap["offset"]) == ("gap", 0)
            assert gap["epoch"] != before["epoch"]
            publisher = publish_elsewhere(valkey.url, "sk", "wall", range(3))
            assert await numbers(client, 3) == [0, 1, 2]
            assert publisher.wait() == 0
            await client.close()
        finally:
            second.terminate()
            second.wait()

    with running(valkey) as first, gunicorn(valkey.url, "sk", workers=1) as url:
        asyncio.run(check(url))


def test_handshake__close_codes_and_refusals_as_documented(server: str) -> None:
    async def check() -> None:
        anonymous = await connect(server, subprotocols=BEARER)  # type: ignore[arg-type]
        await anonymous.wait_closed()
        assert (anonymous.close_code, anonymous.close_reason) == (4401, "token_missing")
        expiring = await connect(f"{server}?user=ann&expires_in=0.3", subprotocols=BEARER)  # type: ignore[arg-type]
        await expiring.wait_closed()
        assert (expiring.close_code, expiring.close_reason) == (4401, "token_expired")
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{server}?user=ann", origin="https://evil.example")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"")["code"] == "origin_not_allowed"

    asyncio.run(check())
