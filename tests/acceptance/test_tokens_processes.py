"""Two web processes that share Redis and the database, and nothing else."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection

from scaling_kit import embedded
from scaling_kit.testing import die_with_parent, wait_until
from tests import settings as test_settings

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "correct horse battery staple"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def processes(valkey: None, django_db_setup: None) -> Iterator[list[httpx.Client]]:
    """A client for each of two gunicorn processes."""
    ports = [embedded.free_port(), embedded.free_port()]
    running = [start(port) for port in ports]
    clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) for port in ports]
    try:
        for port in ports:
            wait_until(lambda port=port: embedded.accepts(port), timeout_seconds=30, what="gunicorn listens")
        yield clients
    finally:
        for client in clients:
            client.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=10)


def start(port: int) -> subprocess.Popen[bytes]:
    application = "django.core.wsgi:get_wsgi_application()"
    options = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, application],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": database_url()},
        preexec_fn=die_with_parent,
        stderr=subprocess.DEVNULL,
    )


def database_url() -> str:
    """Of the database that this test sees."""
    base = os.environ.get("DATABASE_URL", test_settings.POSTGRES.url).rpartition("/")[0]
    return f"{base}/{connection.settings_dict['NAME']}"


@pytest.fixture
def credentials() -> dict[str, str]:
    """Of a user that no other test has tried to log in as."""
    username = f"user-{uuid.uuid4().hex}"
    User.objects.create_user(username, password=PASSWORD)
    return {"username": username, "password": PASSWORD}


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access']}"}


def in_parallel(processes: list[httpx.Client], path: str, body: dict[str, str], times: int) -> list[httpx.Response]:
    """Post to both processes in turn, from eight threads."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number: processes[number % 2].post(path, json=body), range(times)))


def test_session_ended_in_one__refused_in_the_other(processes: list[httpx.Client], credentials: dict[str, str]) -> None:
    one, other = processes
    tokens = one.post("/token/", json=credentials).json()
    assert other.get("/whoami/", headers=bearer(tokens)).json()["username"] == credentials["username"]
    assert one.post("/token/logout/", json={"refresh": tokens["refresh"]}).status_code == 204
    assert other.get("/whoami/", headers=bearer(tokens)).json()["code"] == "token_revoked"
    assert other.post("/token/refresh/", json={"refresh": tokens["refresh"]}).status_code == 401


def test_user_logged_out_everywhere_by_one__refused_in_the_other(
    processes: list[httpx.Client], credentials: dict[str, str]
) -> None:
    one, other = processes
    here, there = (client.post("/token/", json=credentials).json() for client in processes)
    assert one.post("/token/logout-all/", headers=bearer(here)).status_code == 204
    assert other.get("/whoami/", headers=bearer(there)).json()["code"] == "token_revoked"


def test_parallel_refreshes_in_both__one_successor(processes: list[httpx.Client], credentials: dict[str, str]) -> None:
    refresh = processes[0].post("/token/", json=credentials).json()["refresh"]
    answers = in_parallel(processes, "/token/refresh/", {"refresh": refresh}, 16)
    assert {answer.status_code for answer in answers} == {200}
    [successor] = {answer.json()["refresh"] for answer in answers}
    assert processes[1].post("/token/refresh/", json={"refresh": successor}).status_code == 200


def test_passwords_guessed_at_both__one_limit(processes: list[httpx.Client], credentials: dict[str, str]) -> None:
    answers = in_parallel(processes, "/token/", {**credentials, "password": "wrong"}, 20)
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15
