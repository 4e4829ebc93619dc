"""The cache where code runs: threads of a WSGI server, an ASGI server, a management command, a job's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection, transaction
from rq import Queue
from rq.serializers import JSONSerializer

from scaling_kit import embedded
from scaling_kit.cache import tags
from scaling_kit.jobs import queues
from scaling_kit.testing import die_with_parent, wait_until
from tests.acceptance.cache_site_views import rename_in_a_job
from tests.library.models import Author, Book

WSGI = ["gunicorn", "tests.acceptance.cache_site:application", "-k", "gthread", "--threads", "6", "--workers", "2"]
ASGI = ["uvicorn", "tests.acceptance.cache_site:asgi_application", "--log-level", "warning"]
CLIENTS = 12


@pytest.fixture(autouse=True)
def book(transactional_db: None, keys_of_one_test: str) -> Book:
    tags.redis_client().connection_pool.disconnect()  # this process too meets the test's keys anew
    return Book.objects.create(title="old", author=Author.objects.create(name="Ursula"))


@pytest.fixture
def environment(keys_of_one_test: str) -> dict[str, str]:
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.acceptance.cache_site",
        "SITE_PREFIX": keys_of_one_test,
        "DATABASE_URL": url,
    }


@contextmanager
def started(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, preexec_fn=die_with_parent)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def serving(environment: dict[str, str], server: list[str]) -> Iterator[httpx.Client]:
    port = embedded.free_port()
    address = ["--bind", f"127.0.0.1:{port}", "--no-control-socket"] if server is WSGI else ["--port", str(port)]
    with started(environment, *server, *address):
        wait_until(lambda: embedded.accepts(port), what=f"{server[0]} listens")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client


def read_at_once(client: httpx.Client, path: str) -> list[httpx.Response]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda _: client.get(path), range(CLIENTS)))


@pytest.mark.parametrize("server", [WSGI, ASGI], ids=["gunicorn threads", "uvicorn"])
def test_view_under_a_server__whoever_reads_after_a_commit_gets_it(
    environment: dict[str, str], server: list[str]
) -> None:
    with serving(environment, server) as client:
        wait_until(lambda: client.get("/books/").headers["X-Cache"] == "hit")
        for number in range(5):
            with transaction.atomic():
                Book.objects.update(title=f"title {number}")
            answers = read_at_once(client, "/books/")
            assert {answer.json()[0]["title"] for answer in answers} == {f"title {number}"}
        assert client.get("/books/").headers["X-Cache"] == "hit"


def test_async_view__cached_function_hits_and_is_invalidated_by_sync_and_async_writes(
    environment: dict[str, str],
) -> None:
    def is_hit() -> bool:
        return bool(client.get("/async/").json()["computed"] == 0)

    with serving(environment, ASGI) as client:
        wait_until(is_hit)
        for number in range(3):
            Book.objects.update(title=f"sync {number}")
            assert {str(answer.json()["titles"]) for answer in read_at_once(client, "/async/")} == {
                f"['sync {number}']"
            }
            assert is_hit()
            assert client.get(f"/async/rename/async {number}/").json() == {"titles": [f"async {number}"]}
            assert client.get("/async/").json()["titles"] == [f"async {number}"]
            assert client.get("/books/").json()[0]["title"] == f"async {number}"


def test_management_command_writes__first_read_shows_it(
    environment: dict[str, str], book: Book, tmp_path: Path, client: Any, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.cache.views"
    settings.SCALING_KIT_CACHE_HEADER = True
    client.get("/books/")
    assert client.get("/books/")["X-Cache"] == "hit"
    fixture = tmp_path / "book.json"
    row = {"model": "library.book", "pk": book.pk, "fields": {"title": "loaded", "author": book.author_id, "tags": []}}
    fixture.write_text(json.dumps([row]))
    subprocess.run([sys.executable, "-m", "django", "loaddata", str(fixture)], env=environment, check=True)
    assert client.get("/books/").json()[0]["title"] == "loaded"


def test_job_writes_in_a_forked_process__first_read_shows_it(
    environment: dict[str, str], keys_of_one_test: str, client: Any, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.cache.views"
    settings.SCALING_KIT_CACHE_HEADER = True
    client.get("/books/")
    assert client.get("/books/")["X-Cache"] == "hit"
    name = f"{keys_of_one_test}-jobs"
    queue = Queue(name, connection=queues.connection("default"), serializer=JSONSerializer)
    with started(environment, "django", "runworkers", "--queues", name):
        for before, after in (("old", "first"), ("first", "second")):
            job = queue.enqueue(rename_in_a_job, after)
            wait_until(lambda job=job: job.is_finished or job.is_failed, timeout_seconds=20)  # type: ignore[misc]
            assert job.return_value() == [[before], [after]], job.exc_info
            assert client.get("/books/").json()[0]["title"] == after
            client.get("/books/")
            assert client.get("/books/")["X-Cache"] == "hit"
