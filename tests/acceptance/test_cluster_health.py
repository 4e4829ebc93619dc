"""`/health/ready` of a real server while what it needs is stopped, hangs and returns; hosts that are drained."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dj_database_url
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from scaling_kit import members, recipes
from scaling_kit.embedded import S3, Postgres, Server, Valkey, free_port
from scaling_kit.testing import start, wait_until
from tests import settings as test_settings
from tests.acceptance.gunicorns import APPLICATION, REPOSITORY, Gunicorn, gunicorn
from tests.acceptance.sites import Site, cluster_up

GOOD = APPLICATION.format(boot_seconds=0)
ANSWERED_WITHIN_SECONDS = 1.5  # the budget, and what two busy cores need


class Backing:
    """A server behind the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.prepare()
        self.start()

    def start(self) -> None:
        self.process: subprocess.Popen[bytes] = start(self.server)
        wait_until(self.server.is_ready, timeout_seconds=30, what=f"{self.server.name} is ready")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def backings(valkey: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backing]]:
    folder = tmp_path_factory.mktemp("backings")
    s3 = S3(folder=folder / "s3", port=free_port(), access_key="key", secret_key="secret-key", buckets=("test",))
    postgres = Postgres(folder=test_settings.FOLDER / "postgres-of-ready", port=free_port(), durable=False)
    valkey_of_its_own = Valkey(folder=folder / "valkey", port=free_port(), persistent=False)
    with ExitStack() as stack:
        found = {}
        for name, server in {"database": postgres, "redis": valkey_of_its_own, "storage": s3}.items():
            found[name] = Backing(server)
            stack.callback(found[name].stop)
        yield found


@pytest.fixture(scope="module")
def server(backings: dict[str, Backing], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    postgres, valkey, s3 = (backings[name].server for name in ("database", "redis", "storage"))
    assert isinstance(postgres, Postgres)
    assert isinstance(valkey, Valkey)
    assert isinstance(s3, S3)
    settings = {
        "DATABASES": {"default": dj_database_url.parse(postgres.url)},
        "SCALING_KIT_REDIS_URL": valkey.url,
        "STORAGES": recipes.storages("test", endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key),
        "SCALING_KIT_CLUSTER_READY_REQUIRES": ("database",),
        "SCALING_KIT_CLUSTER_READY_MAX_AGE_SECONDS": 0.2,
        "SCALING_KIT_CLUSTER_WORKERS": 1,
    }
    with gunicorn(tmp_path_factory.mktemp("server"), "sk", application=GOOD, settings=settings) as running:
        migrate(running)
        wait_until(lambda: status_of(running) == "ready", timeout_seconds=20, what=f"ready {running.log}")
        yield running


def migrate(server: Gunicorn) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": f"{server.folder}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-m", "django", "migrate", "--verbosity=0", "--skip-checks"]
    subprocess.run(command, env=os.environ | environment, check=True)


def status_of(server: Gunicorn, why: dict[str, Any] | None = None) -> str:
    """The word of /health/ready, which must come soon, with the right number, whatever is away."""
    began_at = time.monotonic()
    try:
        code, body = server.get("/health/ready")
    except OSError:  # it is still starting
        return ""
    assert time.monotonic() - began_at < ANSWERED_WITHIN_SECONDS
    found: dict[str, Any] = json.loads(body)
    assert code == (503 if found["status"] == "unready" else 200)
    if why is not None:
        why.update(found)
    return str(found["status"])


@pytest.mark.parametrize("hangs", [False, True], ids=["stopped", "hanging"])
@pytest.mark.parametrize(("name", "becomes"), [("database", "unready"), ("redis", "degraded"), ("storage", "degraded")])
def test_away_and_back__readiness_follows_and_always_answers(
    server: Gunicorn, backings: dict[str, Backing], name: str, becomes: str, hangs: bool
) -> None:
    backing = backings[name]
    wait_until(lambda: status_of(server) == "ready")
    why: dict[str, Any] = {}
    if hangs:
        backing.process.send_signal(signal.SIGSTOP)
    else:
        backing.stop()
    try:
        wait_until(lambda: status_of(server, why) == becomes, what=f"{becomes}, not {why}")
        assert {check: state for check, state in why["checks"].items() if state != "ok"} == {name: "failing"}
        assert server.get("/health/live")[0] == 200
        if name == "database":
            assert "Out of service" in server.get("/health/")[1].decode()
    finally:
        if hangs:
            backing.process.send_signal(signal.SIGCONT)
        else:
            backing.start()
    wait_until(lambda: status_of(server) == "ready", what="ready again")


# --- drained


def cluster(*arguments: str) -> str:
    written = io.StringIO()
    call_command("cluster", *arguments, stdout=written)
    return written.getvalue()


def test_drained_without_a_runner__unready_but_serving_until_undrained(tmp_path: Path, keys_of_one_test: str) -> None:
    settings = {"SCALING_KIT_CLUSTER_READY_REQUIRES": ()}
    with gunicorn(tmp_path, keys_of_one_test, application=GOOD, settings=settings) as server:
        server.wait_for_workers(2)
        assert cluster("drain") == f"{members.host()} web: unready, and serves on\n"
        ready_of_both = [server.get("/health/ready")[0] for _ in range(10)]
        wait_until(lambda: {server.get("/health/ready")[0] for _ in range(10)} == {503}, what=f"{ready_of_both}")
        assert server.get("/pid")[0] == 200
        assert f"drained: all of {members.host()}" in cluster("status")
        with pytest.raises(CommandError, match="`undrain` it without names"):
            cluster("undrain", "web")
        cluster("undrain")
        wait_until(lambda: {server.get("/health/ready")[0] for _ in range(10)} == {200})
        with pytest.raises(CommandError, match="No process of host 'nowhere' is there"):
            cluster("drain", "--host", "nowhere")
        with pytest.raises(CommandError, match="Nothing of the role 'wep'"):
            cluster("drain", "wep")


@pytest.fixture
def site(tmp_path: Path, valkey: None) -> Iterator[Site]:
    with override_settings(SCALING_KIT_KEY_PREFIX="sk"):
        options = ("--web=1", "--websocket=1", "--workers=1", "--no-nginx")
        with cluster_up(tmp_path, *options, MEMBER_HOST="a", DRAIN_SECONDS="1.5") as running:
            yield running


def test_drained_with_a_runner__unready_then_stopped_and_undrained(site: Site) -> None:
    seen: list[tuple[float, int, int]] = []
    over = threading.Event()
    watching = threading.Thread(target=watch, args=[site.url, seen, over])
    watching.start()
    try:
        wait_until(lambda: len(seen) > 2)
        done = json.loads(cluster("drain", "--host=a", "--json"))["done"]
    finally:
        over.set()
        watching.join()
    assert done == {"web": "stopped", "websocket": "stopped"}
    assert {name for name, state in site.state["processes"].items() if state["state"] == "stopped"} == set(done)
    served_unready = [at for at, ready, served in seen if (ready, served) == (503, 200)]
    assert served_unready[-1] - served_unready[0] > 1.0
    assert not [one for one in seen if one[2] != 200]  # nobody was refused before the balancer could know
    assert "started" in cluster("undrain", "--host=a")
    assert site.is_ready()
    wait_until(lambda: ask(site.url, "/health/ready") == 200)


def watch(url: str, seen: list[tuple[float, int, int]], over: threading.Event) -> None:
    """Until nobody answers: the held socket lets connections wait."""
    while not over.wait(0.05):
        try:
            seen.append((time.monotonic(), ask(url, "/health/ready"), ask(url, "/")))
        except (OSError, http.client.HTTPException):
            return


def ask(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
