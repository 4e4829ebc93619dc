"""Real gunicorns under load: reloaded, scaled, broken, killed."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dj_database_url
import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from scaling_kit import members
from scaling_kit.embedded import Postgres, Valkey, free_port
from scaling_kit.testing import running, wait_until
from tests import settings as test_settings
from tests.acceptance.gunicorns import APPLICATION, WEBSOCKETS, Gunicorn, gunicorn, pids

GOOD = APPLICATION.format(boot_seconds=0)
SLOW_TO_BOOT = APPLICATION.format(boot_seconds=1)
BROKEN = "import nothing_of_that_name"


@pytest.fixture
def server(tmp_path: Path, keys_of_one_test: str) -> Iterator[Gunicorn]:
    with gunicorn(tmp_path, keys_of_one_test, application=SLOW_TO_BOOT) as server:
        server.wait_for_workers(2)
        yield server


def test_reloaded_twice_under_load__no_request_lost(server: Gunicorn) -> None:
    first = pids()
    with server.under_load() as load:
        for times in (1, 2):
            server.signal(signal.SIGHUP)
            server.wait_for_log("reload done", times=times)
        load.wait_for(50)
    assert load.failures == []
    assert len(load.answered) > 100
    assert not first & server.wait_for_workers(2)


def test_reloaded_during_a_slow_request__it_is_answered(server: Gunicorn) -> None:
    old = pids()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.get, "/pid?4")
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload done")
        status, body = answer.result()
    assert status == 200
    assert int(body) in old


def test_reloaded__settings_are_read_again_by_master_and_workers(server: Gunicorn) -> None:
    assert server.header("/none", "X-Served-By") is None
    server.write_settings(SCALING_KIT_CLUSTER_WORKERS=1, SCALING_KIT_CLUSTER_SERVED_BY=True)
    server.signal(signal.SIGHUP)
    server.wait_for_log("reload done")
    [worker] = server.wait_for_workers(1)
    assert server.header("/none", "X-Served-By") == f"{members.host()}:{worker}"


def test_scaled_under_load__no_request_lost(server: Gunicorn) -> None:
    with server.under_load() as load:
        server.signal(signal.SIGTTIN)
        server.wait_for_workers(3)
        server.signal(signal.SIGTTOU)
        server.wait_for_workers(2)
        load.wait_for(50)
    assert load.failures == []


def test_release_that_cannot_be_imported__old_workers_stay_until_it_is_mended(server: Gunicorn) -> None:
    old = pids()
    server.write_application(BROKEN)
    with server.under_load() as load:
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload aborted")
        load.wait_for(50)
        assert pids() == old
        server.write_application(GOOD)
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload done")
    assert load.failures == []
    assert not old & server.wait_for_workers(2)


def test_release_that_hangs_while_it_boots__reload_aborted(tmp_path: Path, keys_of_one_test: str) -> None:
    settings = {"SCALING_KIT_CLUSTER_BOOT_SECONDS": 5}
    with gunicorn(tmp_path, keys_of_one_test, application=GOOD, settings=settings) as server:
        old = server.wait_for_workers(2)
        server.write_application(APPLICATION.format(boot_seconds=60))
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload aborted")
        assert "reason=timeout" in server.log
        assert pids() == old


def test_settings_that_cannot_be_imported__reload_aborted(server: Gunicorn) -> None:
    old = pids()
    (server.folder / "site_settings.py").write_text(BROKEN)
    server.signal(signal.SIGHUP)
    server.wait_for_log("reload aborted")
    assert pids() == old
    assert server.get("/pid")[0] == 200


def test_worker_killed__off_the_list_at_once_and_replaced(server: Gunicorn) -> None:
    victim, survivor = server.wait_for_workers(2)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in pids(), timeout_seconds=5, what="the dead worker is forgotten")
    assert survivor in server.wait_for_workers(2)


def test_worker_killed_when_the_release_is_broken__server_goes_on(server: Gunicorn) -> None:
    victim, survivor = server.wait_for_workers(2)
    server.write_application(BROKEN)
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log("boot failed", times=2)
    assert server.get("/pid") == (200, str(survivor).encode())
    server.write_application(GOOD)
    assert survivor in server.wait_for_workers(2)


def test_first_start_broken__exits_with_a_reason(tmp_path: Path, keys_of_one_test: str) -> None:
    with gunicorn(tmp_path, keys_of_one_test, application=BROKEN) as server:
        assert server.process.wait(timeout=15) != 0
        assert "nothing_of_that_name" in server.log


def test_told_to_stop_with_a_drain__unready_but_serving(tmp_path: Path, keys_of_one_test: str) -> None:
    settings = {"SCALING_KIT_CLUSTER_DRAIN_SECONDS": 1.0, "SCALING_KIT_CLUSTER_READY_REQUIRES": ()}
    with gunicorn(tmp_path, keys_of_one_test, application=GOOD, settings=settings) as server:
        server.wait_for_workers(2)
        assert server.get("/health/ready")[0] == 200
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health/ready")[0] == 503)
        assert json.loads(server.get("/health/ready")[1])["draining"]
        assert server.get("/pid")[0] == 200
        assert server.process.wait(timeout=15) == 0
    assert pids() == set()


def test_database_goes_away_and_returns__readiness_follows(tmp_path: Path, keys_of_one_test: str) -> None:
    postgres = Postgres(folder=test_settings.FOLDER / "postgres-of-health", port=free_port(), durable=False)
    settings = {
        "DATABASES": {"default": dj_database_url.parse(postgres.url)},
        "SCALING_KIT_CLUSTER_READY_REQUIRES": ("database",),
        "SCALING_KIT_CLUSTER_WORKERS": 1,
    }
    with gunicorn(tmp_path, keys_of_one_test, application=GOOD, settings=settings) as server:
        for _ in range(2):
            with running(postgres):
                wait_until(lambda: server.get("/health/ready")[0] == 200)
            wait_until(lambda: server.get("/health/ready")[0] == 503)
            assert server.get("/health/live")[0] == 200


def test_redis_goes_away_and_returns__serving_and_reloading_go_on(tmp_path: Path, keys_of_one_test: str) -> None:
    valkey = Valkey(folder=tmp_path / "valkey", port=free_port(), persistent=False)
    settings = {
        "SCALING_KIT_REDIS_URL": valkey.url,
        "SCALING_KIT_CLUSTER_READY_REQUIRES": (),
        "SCALING_KIT_CLUSTER_WORKERS": 1,
    }
    with (
        override_settings(SCALING_KIT_REDIS_URL=valkey.url),
        gunicorn(tmp_path, keys_of_one_test, application=GOOD, settings=settings) as server,
    ):
        with running(valkey):
            old = server.wait_for_workers(1)
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload done")
        assert server.get("/pid")[0] == 200
        status, body = server.get("/health/ready")
        assert (status, json.loads(body)["checks"]["redis"]) == (200, "failing")
        with running(valkey):
            assert not old & server.wait_for_workers(1)


@pytest.fixture
def websockets(tmp_path: Path, keys_of_one_test: str) -> Iterator[Gunicorn]:
    application = WEBSOCKETS.format(told=str(tmp_path / "told"))
    settings = {
        "SCALING_KIT_CLUSTER_WEBSOCKET_WORKERS": 1,
        "SCALING_KIT_MEMBER_TTL_SECONDS": 60,  # longer than a test waits: who is listed no longer has left by itself
    }
    configuration = "scaling_kit.cluster.gunicorn_websocket"
    with gunicorn(
        tmp_path, keys_of_one_test, application=application, settings=settings, configuration=configuration
    ) as server:
        server.wait_for_workers(1)
        yield server


def test_websocket_server_stops__clients_see_1012_and_consumers_are_told(websockets: Gunicorn) -> None:
    url = f"ws://127.0.0.1:{websockets.port}/"
    with connect(url) as one, connect(url) as two:
        one.send("hello")
        assert one.recv() == "hello"
        websockets.signal(signal.SIGTERM)
        for socket in (one, two):
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert websockets.process.wait(timeout=15) == 0
    assert (websockets.folder / "told").read_text().split() == ["1012", "1012"]


def test_websocket_server_reloaded__its_old_worker_leaves_the_list_by_itself(websockets: Gunicorn) -> None:
    old = pids()
    websockets.signal(signal.SIGHUP)
    websockets.wait_for_log("reload done")
    assert not old & websockets.wait_for_workers(1)


def test_websocket_message_too_large__closed_with_1009(websockets: Gunicorn) -> None:
    with connect(f"ws://127.0.0.1:{websockets.port}/") as socket:
        socket.send("x" * 65_537)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
