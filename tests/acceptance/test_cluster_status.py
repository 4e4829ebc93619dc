"""`cluster status` against the truth, with the default times: processes of two hosts are killed, paused, cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from django.test import override_settings

from scaling_kit.cluster.overview import overview
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import start, wait_until
from tests.acceptance.processes import is_alive
from tests.acceptance.sites import ROOT, Site, cluster_up, environment

WITHIN_SECONDS = 15
OPTIONS = ("--websocket=1", "--workers=1", "--no-nginx")
SCHEDULERS = {"a": 1, "b": 2}


@dataclass
class Cluster:
    valkey: Valkey
    server: subprocess.Popen[bytes]
    sites: dict[str, Site]

    def environment(self, host: str) -> dict[str, str]:
        return {"REDIS_URL": self.valkey.url, "MEMBER_HOST": host}

    def restart_redis(self) -> None:
        self.server.kill()
        self.server.wait()
        self.server = start(self.valkey)
        wait_until(self.valkey.is_ready, what="Valkey is back")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    valkey = Valkey(folder=folder / "valkey", port=free_port(), persistent=False)
    valkey.prepare()
    found = Cluster(valkey=valkey, server=start(valkey), sites={})
    with ExitStack() as stack:
        stack.callback(lambda: (found.server.kill(), found.server.wait()))
        wait_until(valkey.is_ready)

        def up(host: str) -> Site:
            own = folder / host
            own.mkdir()
            options = (*OPTIONS, "--web=2", f"--schedulers={SCHEDULERS[host]}")
            return stack.enter_context(cluster_up(own, *options, **found.environment(host)))

        with ThreadPoolExecutor() as starting:
            found.sites |= zip(SCHEDULERS, starting.map(up, SCHEDULERS), strict=True)
        stack.enter_context(override_settings(SCALING_KIT_REDIS_URL=valkey.url))
        yield found


@pytest.fixture(autouse=True)
def keys_of_the_cluster(cluster: Cluster) -> Iterator[None]:
    with override_settings(SCALING_KIT_KEY_PREFIX="sk"):
        yield


def seen() -> dict[int, dict[str, Any]]:
    """The members that are shown, by pid: all are on one machine."""
    return {member["pid"]: member for member in overview()["members"]}


def truth(site: Site) -> dict[int, str]:
    """Role of every process that should be shown."""
    processes = site.state["processes"]
    roles = {site.runner.pid: "runner", processes["workers"]["pid"]: "supervisor"}
    roles |= {state["pid"]: "scheduler" for name, state in processes.items() if name.startswith("scheduler")}
    for name in ("web", "websocket"):
        roles |= dict.fromkeys(children(processes[name]["pid"]), name)
    shown = {pid for pid, member in seen().items() if member["role"] == "worker"}
    return roles | dict.fromkeys(shown & children(processes["workers"]["pid"]), "worker")


def children(pid: int | None) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children() if is_alive(child)} if pid else set()
    except psutil.NoSuchProcess:
        return set()


def differs(cluster: Cluster, *, missing: Collection[int] = ()) -> list[str]:
    """What `cluster status` says that is not so, or does not say; empty when all is well."""
    shown = {(member["host"], pid, member["role"]) for pid, member in seen().items()}
    expected = {(host, pid, role) for host, site in cluster.sites.items() for pid, role in truth(site).items()}
    expected = {one for one in expected if one[1] not in missing}
    wrong = [f"shown, not there: {one}" for one in shown - expected]
    wrong += [f"there, not shown: {one}" for one in expected - shown]
    counts = Counter((host, role) for host, _, role in expected)
    for host, site in cluster.sites.items():
        whole = {"web": 2, "websocket": 1, "worker": 1, "supervisor": 1, "scheduler": SCHEDULERS[host], "runner": 1}
        for role in (role for pid, role in truth(site).items() if pid in missing):
            whole[role] -= 1
        wrong += [
            f"{host}: {counts[host, role]} {role}" for role, number in whole.items() if counts[host, role] != number
        ]
    return wrong


def assert_led() -> None:
    """By a candidate that is there. A lease outlives its holder by 15 s, as it is documented."""
    wait_until(lambda: leader() in {member["id"] for member in seen().values()}, timeout_seconds=18, what="a leader")


def leader() -> str | None:
    found: str | None = overview()["apps"]["scaling_kit_scheduler"]["snapshot"]["leader"]
    return found


def assert_right(cluster: Cluster, *, within_seconds: float = WITHIN_SECONDS, **options: Any) -> None:
    try:
        wait_until(lambda: not differs(cluster, **options), timeout_seconds=within_seconds)
    except TimeoutError:
        pytest.fail(f"after {within_seconds} s: {differs(cluster, **options)}")


def pid_of(host: str, role: str, *, not_in: Collection[int] = ()) -> int:
    return next(
        pid for pid, member in seen().items() if (member["host"], member["role"]) == (host, role) and pid not in not_in
    )


def command(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    """For `subprocess`: on a terminal of 80 columns."""
    return {
        "args": [sys.executable, "-m", "django", "cluster", "status", *arguments],
        "cwd": ROOT,
        "env": environment(cluster.sites["a"].folder) | cluster.environment("a") | {"COLUMNS": "80"},
        "text": True,
    }


def run_status(cluster: Cluster, *arguments: str) -> str:
    done = subprocess.run(**command(cluster, *arguments), capture_output=True, timeout=60, check=True)
    return str(done.stdout)


def test_two_hosts__in_one_view(cluster: Cluster) -> None:
    assert_right(cluster)
    text = run_status(cluster)
    assert "host a" in text
    assert "host b" in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(json.loads(run_status(cluster, "--json"))["members"]) == len(seen())


def test_watched__printed_again_until_interrupted(cluster: Cluster) -> None:
    with subprocess.Popen(**command(cluster, "--watch"), stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        heads = (line for line in watching.stdout if "processes on 2 hosts" in line)
        assert next(heads)
        assert next(heads)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_reader_that_has_seen_enough__ends_it_without_a_traceback(cluster: Cluster) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**command(cluster, "--watch"), **pipes) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline()
        watching.stdout.close()
        assert watching.wait(10) == 128 + signal.SIGPIPE
        assert "BrokenPipe" not in watching.stderr.read()


def test_all_kinds_killed_and_some_paused__right_within_15_s(cluster: Cluster) -> None:
    assert_right(cluster)
    assert_led()
    schedulers = {member["id"]: pid for pid, member in seen().items() if member["role"] == "scheduler"}
    killed = {schedulers.pop(leader()), schedulers.popitem()[1]}
    killed |= {pid_of("a", role) for role in ("web", "websocket", "worker")}
    killed |= {cluster.sites["b"].pid(master) for master in ("web", "workers")}
    paused = {pid_of("a", "web", not_in=killed), pid_of("b", "websocket")}
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    began_at = time.monotonic()
    try:
        wait_until(lambda: all(seen()[pid]["late"] for pid in paused), timeout_seconds=9, what="paused ones are late")
        assert "late: paused?" in run_status(cluster)
        assert_right(cluster, within_seconds=began_at + WITHIN_SECONDS - time.monotonic(), missing=paused)
        assert_led()
        assert all(is_alive(psutil.Process(pid)) for pid in paused)
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: paused <= seen().keys(), timeout_seconds=5, what="they are back")
    assert_right(cluster, within_seconds=5)


def test_redis_restarted_empty__all_register_again(cluster: Cluster) -> None:
    assert_right(cluster)
    before = seen().keys()
    cluster.restart_redis()
    wait_until(lambda: seen().keys() == before, timeout_seconds=WITHIN_SECONDS, what="all are back")
    assert_right(cluster, within_seconds=5)
    assert_led()


def test_runner_killed__all_of_its_host_gone(cluster: Cluster) -> None:
    """The last: nobody starts that host again."""
    gone = cluster.sites.pop("b")
    gone.runner.kill()
    gone.runner.wait()
    wait_until(lambda: {member["host"] for member in seen().values()} == {"a"}, timeout_seconds=WITHIN_SECONDS)
    assert_right(cluster, within_seconds=5)
    assert_led()
