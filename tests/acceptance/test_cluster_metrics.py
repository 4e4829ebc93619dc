"""Any process answers for all: what a known load was counted as, from two real web processes."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from scaling_kit import members
from scaling_kit.cluster.overview import overview
from scaling_kit.testing import wait_until
from tests import settings as test_settings
from tests.acceptance.gunicorns import APPLICATION, Gunicorn, gunicorn, pids
from tests.realtime.servers import publish_elsewhere

CACHING = (
    APPLICATION
    + """
from scaling_kit.cache import cached

@cached()
def square(number):
    return number ** 2

serve = application

def application(environ, start_response):
    if not environ["PATH_INFO"].startswith("/square"):
        return serve(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{os.getpid()}} {{square(int(environ['QUERY_STRING']))}}".encode()]
"""
)
ROOMS = """
import os
os.environ["SCALING_KIT_TEST_PREFIX"] = {prefix!r}
from tests.realtime.asgi import application
"""
TOKEN = "token-of-prometheus"


@pytest.fixture
def server(tmp_path: Path, keys_of_one_test: str) -> Iterator[Gunicorn]:
    settings = {"SCALING_KIT_MEMBER_TTL_SECONDS": 1.5, "SCALING_KIT_CLUSTER_METRICS_TOKEN": TOKEN}
    application = CACHING.format(boot_seconds=0)
    with gunicorn(tmp_path, keys_of_one_test, application=application, settings=settings) as server:
        server.wait_for_workers(2)
        yield server


def scrape(server: Gunicorn) -> dict[str, float]:
    """Name → the sum over its labels."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics/")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found


def counted() -> int:
    return members.fetch_totals().get("web.requests", 0)


def test_known_load__counted_whole_and_kept_when_a_worker_dies(server: Gunicorn) -> None:
    for _ in range(60):
        assert server.get("/none")[0] == 404
    wait_until(lambda: counted() == 60)
    found = scrape(server)
    assert found["scaling_kit_web_requests_total"] == found["scaling_kit_web_request_seconds_count"] == 60
    wait_until(lambda: counted() == 61)  # with the one that asked
    os.kill(server.wait_for_workers(2).pop(), signal.SIGKILL)
    wait_until(lambda: len(pids()) == 2)
    for _ in range(20):
        assert server.get("/none")[0] == 404
    wait_until(lambda: counted() == 81)
    assert scrape(server)["scaling_kit_web_requests_total"] == 81


def test_known_load_of_the_cache__hits_and_misses_of_both_processes(server: Gunicorn) -> None:
    answered = [server.get(f"/square?{number}")[1].split() for _ in range(6) for number in range(10)]
    assert [int(square) for _, square in answered] == [number**2 for _ in range(6) for number in range(10)]
    assert len({pid for pid, _ in answered}) == 2
    wait_until(lambda: overview()["counters"].get("cache.hit", 0) == 50)
    found = scrape(server)
    assert (found["scaling_kit_cache_hit_total"], found["scaling_kit_cache_miss_total"]) == (50, 10)
    assert overview()["apps"]["scaling_kit_cache"]["snapshot"]["hit_ratio"] == 0.833


@pytest.fixture
def rooms(tmp_path_factory: pytest.TempPathFactory, keys_of_one_test: str) -> Iterator[Gunicorn]:
    with gunicorn(
        tmp_path_factory.mktemp("rooms"),
        keys_of_one_test,
        application=ROOMS.format(prefix=keys_of_one_test),
        settings={"SCALING_KIT_CLUSTER_WEBSOCKET_WORKERS": 2},
        configuration="scaling_kit.cluster.gunicorn_websocket",
    ) as server:
        yield server


def test_known_load_of_rooms__sockets_and_deliveries_of_both_processes(
    server: Gunicorn, rooms: Gunicorn, keys_of_one_test: str
) -> None:
    rooms.wait_for_workers(4)
    with ExitStack() as stack:
        clients = [joined(stack, rooms) for _ in range(6)]
        while len(by_process := sockets_by_process()) < 2 or sum(by_process.values()) != len(clients):
            if sum(by_process.values()) == len(clients):  # all at one process
                clients.append(joined(stack, rooms))
        assert publish_elsewhere(test_settings.REDIS_URL, keys_of_one_test, "wall", range(20)).wait() == 0
        for client in clients:
            assert [json.loads(client.recv(timeout=10))["data"] for _ in range(20)] == list(range(20))
        wait_until(lambda: scrape(server).get("scaling_kit_realtime_delivered_total") == 20 * len(clients))
        assert scrape(server)["scaling_kit_realtime_sockets"] == len(clients)
        clients.pop().close()
        wait_until(lambda: scrape(server)["scaling_kit_realtime_sockets"] == len(clients))
    wait_until(lambda: scrape(server)["scaling_kit_realtime_sockets"] == 0)


def joined(stack: ExitStack, rooms: Gunicorn) -> ClientConnection:
    protocols = ["kit.v1", "bearer.x"]
    client = stack.enter_context(connect(f"ws://127.0.0.1:{rooms.port}/?user=ann", subprotocols=protocols))
    client.send(json.dumps({"type": "join", "room": "wall", "last": None}))
    client.recv(timeout=10)
    return client


def sockets_by_process() -> dict[str, int]:
    """Of those that have some."""
    snapshot = overview()["apps"]["scaling_kit_realtime"]["snapshot"]
    return {process: count for process, count in snapshot["sockets_by_process"].items() if count}
