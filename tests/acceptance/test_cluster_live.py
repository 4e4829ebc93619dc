"""A run-time setting changed anywhere is seen by every process within a second, whatever becomes of Redis."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import override_settings

from scaling_kit import recipes
from scaling_kit.cluster import live_copy, live_store
from scaling_kit.cluster.live import live
from scaling_kit.embedded import Valkey
from scaling_kit.testing import die_with_parent, running, start, wait_until
from tests.acceptance import live_tasks
from tests.acceptance.gunicorns import REPOSITORY, Gunicorn, gunicorn, pids
from tests.jobs.proxy import Proxy

WORKERS = 3
APPLICATION = "from tests.acceptance.live_site import application"


@pytest.fixture
def valkey_of_the_site(
    transactional_db: None, keys_of_one_test: str, valkey_of_its_own: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Valkey]:
    """The test itself is one more process of the site."""
    url = valkey_of_its_own.url
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("DATABASE_URL", database_url())
    with running(valkey_of_its_own), override_settings(SCALING_KIT_REDIS_URL=url, RQ_QUEUES=recipes.rq_queues(url)):
        live_copy.forget()
        yield valkey_of_its_own
        live_copy.forget()


@pytest.fixture
def site(tmp_path: Path, keys_of_one_test: str, valkey_of_the_site: Valkey) -> Iterator[Gunicorn]:
    settings = {"SCALING_KIT_CLUSTER_WORKERS": WORKERS}
    with gunicorn(tmp_path, keys_of_one_test, application=APPLICATION, settings=settings) as server:
        server.wait_for_workers(WORKERS)
        yield server


def database_url(port: int | None = None) -> str:
    database = connection.settings_dict
    return "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database | ({"PORT": port} if port else {}))


@dataclass
class Watch:
    """Asks all web processes all the time, and remembers what each said last, and when it said so first."""

    site: Gunicorn
    said: dict[int, tuple[int, float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Watch]:
        threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(self.said) == WORKERS, what="every worker has answered")
            yield self
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def seconds_until_all_say(self, value: int, since: float) -> float:
        wait_until(
            lambda: {said for said, _ in self.said.values()} == {value},
            timeout_seconds=8,
            what=f"all say {value}: {self.said}",
        )
        return max(at for _, at in self.said.values()) - since

    def _ask(self) -> None:
        while not self.stopped.is_set():
            asked_at = time.monotonic()
            try:
                answer = ask(self.site, "/")
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            before = self.said.get(answer["pid"])
            if before is None or before[0] != answer["value"]:
                self.said[answer["pid"]] = (answer["value"], asked_at)
            time.sleep(0.005)


def ask(site: Gunicorn, path: str) -> dict[str, Any]:
    status, body = site.get(path)
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


@contextmanager
def watched(site: Gunicorn) -> Iterator[Watch]:
    with Watch(site).running() as watch:
        yield watch
        assert watch.failures == []


def change(value: int) -> float:
    """By this process; when it was committed."""
    live.UPLOAD_MAX_MB = value
    return time.monotonic()


@contextmanager
def rq_worker(site: Gunicorn) -> Iterator[None]:
    with (site.folder / "worker_log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "runworkers", "--processes", "1", "--mode", "fork", "--queues", "default"],
            cwd=REPOSITORY,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": f"{site.folder}:{REPOSITORY}"},
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def told_by(job: Path) -> dict[int, float]:
    lines = [line.split() for line in job.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {int(value): float(at) for value, at in lines}


def test_changed_by_one__seen_by_web_processes_and_a_running_job(site: Gunicorn) -> None:
    with rq_worker(site), watched(site) as watch:
        told = site.folder / "told"
        live_tasks.watch.enqueue(str(told), 7)
        wait_until(told.exists, what="the job has read the setting")
        took, by_job = [], []
        for value in (5, 6, 7):
            ask(site, f"/change?to={value}")
            changed_at, since = time.time(), time.monotonic()
            took.append(watch.seconds_until_all_say(value, since))
            wait_until(lambda told=told, value=value: value in told_by(told), what="the job has seen it")
            by_job.append(told_by(told)[value] - changed_at)
    print(f"\nseconds: web {[f'{each:.3f}' for each in took]} job {[f'{each:.3f}' for each in by_job]}")
    assert max(*took, *by_job) <= 1.0


def test_reads_cost_no_round_trip__and_concurrent_changes_are_all_in_the_history(
    site: Gunicorn, valkey_of_the_site: Valkey
) -> None:
    with watched(site):
        pass  # every worker follows now
    server: Any = redis.Redis.from_url(valkey_of_the_site.url)
    before = server.info("commandstats")
    cost = ask(site, "/read?times=300000")
    after = server.info("commandstats")
    commands = sum(after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after)
    print(f"\n{cost['seconds'] / 300_000 * 1e6:.2f} µs a read, {commands} commands of all processes meanwhile")
    assert cost["queries"] == 0
    assert commands < 100, "those of the polls"
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda value: ask(site, f"/change?to={value}"), range(100, 140)))
    assert len({answer["pid"] for answer in answers}) > 1
    history = live_store.fetch_history("UPLOAD_MAX_MB")
    assert sorted(each["new"] for each in history) == list(range(100, 140))
    chain = [20, *(each["new"] for each in reversed(history))]
    assert [each["old"] for each in reversed(history)] == chain[:-1]
    with watched(site) as watch:
        assert watch.seconds_until_all_say(chain[-1], time.monotonic()) <= 1.0


def test_redis_restarted_empty_and_away__reads_go_on_and_changes_are_seen(
    site: Gunicorn, valkey_of_the_site: Valkey
) -> None:
    took = {}
    with watched(site) as watch:
        server = kill_redis(valkey_of_the_site)
        took["away"] = watch.seconds_until_all_say(5, change(5))
        server = start(valkey_of_the_site)
        wait_until(valkey_of_the_site.is_ready)
        took["right after its return"] = watch.seconds_until_all_say(6, change(6))
        took["later"] = watch.seconds_until_all_say(7, change(7))
        os.kill(server.pid, signal.SIGSTOP)
        took["hanging"] = watch.seconds_until_all_say(8, change(8))
        os.kill(server.pid, signal.SIGCONT)
        took["going on"] = watch.seconds_until_all_say(9, change(9))
    server.kill()
    server.wait()
    print({what: f"{seconds:.3f}" for what, seconds in took.items()})
    assert max(took.values()) <= 1.0, took


def kill_redis(server: Valkey) -> None:
    redis_client: Any = redis.Redis.from_url(server.url)
    os.kill(redis_client.info("server")["process_id"], signal.SIGKILL)
    wait_until(lambda: not server.is_ready())


def test_process_stopped_past_a_change__sees_it_when_it_goes_on(site: Gunicorn) -> None:
    with watched(site) as watch:
        [stopped, *_] = pids()
        os.kill(stopped, signal.SIGSTOP)
        change(5)
        time.sleep(1.5)
        os.kill(stopped, signal.SIGCONT)
        seconds = watch.seconds_until_all_say(5, time.monotonic())
    print(f"{seconds:.3f}")
    assert seconds <= 1.0


READER = """
import atexit, sys, threading, time
atexit.register(lambda: print(sorted(thread.name for thread in threading.enumerate())))  # the last one to be called
import django
from django.conf import settings
settings.SCALING_KIT_KEY_PREFIX = sys.argv[1]
django.setup()
from scaling_kit.cluster.live import live
for _ in sys.stdin:
    began_at = time.monotonic()
    print(live.UPLOAD_MAX_MB, time.monotonic() - began_at, flush=True)
"""


def test_database_away__the_last_known_value_and_the_default_at_the_start(valkey_of_the_site: Valkey) -> None:
    proxy = Proxy(f"redis://{connection.settings_dict['HOST']}:{connection.settings_dict['PORT']}/0")
    with proxy:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(proxy.server_address[1]),
        }
        change(5)
        with reader(environment) as old:
            assert read(old)[0] == 5
            with proxy.refusing():
                change(6)
                with reader(environment) as new:
                    value, seconds = read(new)
                    assert (value, seconds < 1.5) == (20, True)
                    assert read(old)[0] == 5
                    time.sleep(0.5)
                    assert read(old)[0] == 5
            wait_until(lambda: read(old)[0] == 6, timeout_seconds=1.5)
            with proxy.silent():
                change(7)
                time.sleep(0.3)
                assert read(old)[1] < 0.01
            wait_until(lambda: read(old)[0] == 7, timeout_seconds=1.0)


def test_process_ends__its_thread_has_ended_before(valkey_of_the_site: Valkey) -> None:
    with reader(os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}) as process:
        assert read(process)[0] == 20
        time.sleep(0.5)  # it waits for messages now
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        assert process.stdout.readline() == "['MainThread']\n"
        assert process.wait(timeout=5) == 0


@contextmanager
def reader(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", READER, settings.SCALING_KIT_KEY_PREFIX],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    ) as process:
        yield process
        process.kill()


def read(process: subprocess.Popen[str]) -> tuple[int, float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    value, seconds = process.stdout.readline().split()
    return int(value), float(seconds)
