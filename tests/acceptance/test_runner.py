"""`manage.py cluster up` with real gunicorns and a real nginx."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.sync.client import connect

from scaling_kit.cluster import listening, run_folder
from scaling_kit.testing import wait_until
from tests.acceptance.processes import assert_gone, is_alive
from tests.acceptance.sites import ROOT, Site, cluster_up, environment


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        options = ("--workers=0", "--schedulers=0", "--web=2")
        yield lambda *more: stack.enter_context(cluster_up(tmp_path, *options, *more))


def fetch(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(url, data=data, timeout=10) as response:
        return response.read().decode()


def test_nginx__joins_web_and_websockets_on_one_port(site: Callable[..., Site]) -> None:
    running = site("--websocket=1")
    assert re.fullmatch(r"\d+ POST 5", fetch(running.url, b"hello"))
    with connect(f"{running.url.replace('http', 'ws')}/ws/", origin=running.url) as websocket:
        assert psutil.Process(int(websocket.recv(timeout=5))).ppid() == running.pid("websocket")


def test_requests_of_one_client__go_to_all_web_processes(site: Callable[..., Site]) -> None:
    running = site("--websocket=0")
    workers = {worker.pid for worker in psutil.Process(running.pid("web")).children()}
    seen: set[int] = set()
    wait_until(lambda: seen.add(int(fetch(running.url).split()[0])) or seen == workers, what="all have answered")


def test_killed_process__comes_back(site: Callable[..., Site]) -> None:
    running = site("--websocket=0")
    for name in ("web", "nginx"):
        running.kill(name)
        assert fetch(running.url)


def test_killed_master__leaves_none_of_its_workers(site: Callable[..., Site]) -> None:
    running = site("--websocket=1")
    for name in ("web", "websocket"):
        workers = psutil.Process(running.pid(name)).children()
        running.kill(name)
        assert_gone(workers, within_seconds=5)


@pytest.mark.parametrize(("body", "is_answered"), [(None, True), (b"must not run twice", False)])
def test_web_worker_killed_under_a_request__only_a_get_is_tried_again(
    site: Callable[..., Site], body: bytes | None, is_answered: bool
) -> None:
    running = site("--websocket=0")
    with ThreadPoolExecutor() as client:
        slow = client.submit(fetch, f"{running.url}/?seconds=1.5", body)
        busy = wait_until(lambda: busy_worker(running.pid("web")), what="a worker has the request")
        os.kill(busy, signal.SIGKILL)
        if is_answered:
            assert int(slow.result().split()[0]) != busy
        else:
            with pytest.raises(HTTPError, match="502") as refused:
                slow.result()
            refused.value.close()


def busy_worker(master: int) -> int | None:
    """The worker that holds an accepted connection."""
    for worker in psutil.Process(master).children():
        if any(connection.status == psutil.CONN_ESTABLISHED for connection in inbound(worker)):
            return worker.pid
    return None


def inbound(worker: psutil.Process) -> list:
    listening = {c.laddr.port for c in worker.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return [c for c in worker.net_connections("tcp") if c.laddr.port in listening]


def test_terminated__ends_with_success_and_leaves_no_process(site: Callable[..., Site]) -> None:
    running = site("--websocket=1")
    processes = running.processes()
    assert len(processes) >= 8  # runner, guardian, 2 masters, 3 workers, nginx and its worker
    running.runner.terminate()
    assert running.runner.wait(timeout=15) == 0
    assert_gone(processes, within_seconds=0)
    assert not run_folder.state_file(running.folder).exists()


def test_runner_killed__leaves_no_process(site: Callable[..., Site]) -> None:
    running = site("--websocket=1")
    processes = running.processes()
    running.runner.kill()
    running.runner.wait()
    assert_gone(processes[1:], within_seconds=3)


def test_runner_and_guardian_killed__leave_no_direct_child(site: Callable[..., Site]) -> None:
    running = site("--websocket=0")
    processes = running.processes()
    children = psutil.Process(running.runner.pid).children()
    guardian = next(child for child in children if "guardian.py" in " ".join(child.cmdline()))
    guardian.kill()
    running.runner.kill()
    running.runner.wait()
    try:
        assert_gone(children, within_seconds=3)
    finally:
        for left in filter(is_alive, processes):  # such as nginx's worker, whose master could not tell it
            left.kill()


def test_stop_and_start_of_the_only_web_master__loses_no_request(site: Callable[..., Site]) -> None:
    running = site("--websocket=0", "--no-nginx")
    with Load(running.url) as load:
        for _ in range(2):
            before = running.pid("web")
            os.kill(before, signal.SIGTERM)
            wait_until(lambda: running.pid("web") not in (None, before) and running.is_ready(), what="web is back")  # noqa: B023
            load.wait_for_more()
    assert load.failures == []
    assert load.answered > 100


def test_taken_port_that_was_asked_for__is_one_line_and_a_failure(tmp_path: Path) -> None:
    with listening.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "django", "cluster", "up", f"--bind=127.0.0.1:{port}"],
            cwd=ROOT,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@dataclass
class Load:
    """Clients that send one request after another: half keep their connection, half make a new one each time."""

    url: str
    clients: int = 6
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[index % 2 == 0]) for index in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        enough = self.answered + 20 * self.clients
        wait_until(lambda: self.answered > enough, what="requests are answered")

    def _run(self, keep_alive: bool) -> None:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        while not self._stop.is_set():
            self._ask(connection, keep_alive)
            self._stop.wait(0.005)
        connection.close()

    def _ask(self, connection: HTTPConnection, keep_alive: bool) -> None:
        try:
            connection.request("GET", "/", headers={} if keep_alive else {"Connection": "close"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                self.failures.append(f"status {response.status}")
            self.answered += 1
        except (OSError, HTTPException) as error:
            self.failures.append(f"keep_alive={keep_alive} {error!r}")
            connection.close()
