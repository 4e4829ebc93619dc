"""Uploads as a client does them: a site of two processes, an S3 server that comes and goes, and HTTP between them."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from scaling_kit import embedded
from scaling_kit.media.models import Upload
from scaling_kit.testing import die_with_parent, running, wait_until
from tests import settings as test_settings
from tests.library.models import Author

PNG = b"\x89PNG\r\n\x1a\n" + bytes(92)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def own_s3(tmp_path: Path) -> embedded.S3:
    """An S3 server nobody else uses; not started."""
    return replace(test_settings.S3, folder=tmp_path, port=embedded.free_port())


@pytest.fixture
def site(own_s3: embedded.S3) -> Iterator[httpx.Client]:
    """A client, logged in, of a site with two worker processes."""
    User.objects.create_user("anna", password="pw")
    port = embedded.free_port()
    # fmt: off
    command = [
        sys.executable, "-m", "gunicorn", "tests.acceptance.media_site:application", "--bind", f"127.0.0.1:{port}",
        "--workers", "2", "--worker-class", "gthread", "--threads", "4", "--log-level", "warning",
    ]
    # fmt: on
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.acceptance.media_site",
        "DATABASE_URL": database_url(),
        "SITE_S3_ENDPOINT": own_s3.endpoint,
    }
    process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("anna", "pw"), timeout=20) as client:
            wait_until(lambda: answers(client), timeout_seconds=30, what="the site answers")
            yield client
    finally:
        process.terminate()
        process.wait(timeout=15)


def database_url() -> str:
    settings = connection.settings_dict
    return (
        f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )


@contextmanager
def no_connections_to_the_database() -> Iterator[None]:
    """PostgreSQL ends the connections to the tests' database, and refuses new ones."""
    name = connection.settings_dict["NAME"]
    connection.close()
    with psycopg.connect(database_url().rpartition("/")[0] + "/postgres", autocommit=True) as maintenance:
        maintenance.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        maintenance.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            maintenance.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/uploads/nothing/").status_code == 404
    except httpx.TransportError:
        return False


def ask(site: httpx.Client) -> Any:
    response = site.post("/uploads/", json={"name": "a.png", "size": len(PNG), "type": "image/png"})
    assert response.status_code == 201, response.text
    return response.json()


def send(intent: dict[str, Any]) -> int:
    return httpx.request(intent["method"], intent["url"], content=PNG, headers=intent["headers"]).status_code


def complete(site: httpx.Client, intent: dict[str, Any]) -> httpx.Response:
    return site.post(f"/uploads/{intent['id']}/complete/")


def test_completed_16_times_at_once_in_two_processes__counts_once(site: httpx.Client, own_s3: embedded.S3) -> None:
    with running(own_s3), ThreadPoolExecutor(8) as threads:
        intent = ask(site)
        assert send(intent) == 200
        responses = list(threads.map(lambda _: complete(site, intent), range(16)))
    assert Counter(response.status_code for response in responses) == {200: 1, 409: 15}
    assert Author.objects.count() == 1


def test_s3_stopped__503_and_all_as_before_when_it_is_back(site: httpx.Client, own_s3: embedded.S3) -> None:
    with running(own_s3):
        intent = ask(site)
        assert send(intent) == 200
    away = complete(site, intent)
    assert (away.status_code, away.json()["code"]) == (503, "storage_unavailable")
    assert Upload.objects.get().state == Upload.State.PENDING
    assert not Author.objects.exists()
    later = ask(site)  # asking needs no S3
    with running(own_s3):
        assert complete(site, intent).status_code == 200
        assert send(later) == 200
        assert complete(site, later).status_code == 200
    assert Author.objects.count() == 2


def test_s3_hangs__503_and_the_site_lives(site: httpx.Client, own_s3: embedded.S3) -> None:
    with running(own_s3) as server:
        intent = ask(site)
        assert send(intent) == 200
        os.kill(server.pid, signal.SIGSTOP)
        try:
            away = complete(site, intent)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (away.status_code, away.json()["code"]) == (503, "storage_unavailable")
        assert complete(site, intent).status_code == 200


def test_database_away__503_and_all_as_before_when_it_is_back(site: httpx.Client, own_s3: embedded.S3) -> None:
    with running(own_s3):
        intent = ask(site)
        assert send(intent) == 200
        with no_connections_to_the_database():
            away = complete(site, intent)
        assert (away.status_code, away.json()["code"]) == (503, "database_unavailable")
        assert complete(site, intent).status_code == 200
