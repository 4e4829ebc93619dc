"""`manage.py cluster scale, reload, stop, start, logs` against a running `cluster up`, under load."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.test import override_settings

from scaling_kit import members
from scaling_kit.cluster import orders, sessions
from scaling_kit.redis import Purpose, client, key
from scaling_kit.testing import wait_until
from tests.acceptance.load import open_load
from tests.acceptance.processes import assert_gone
from tests.acceptance.sites import ROOT, Site, cluster_up, environment


@pytest.fixture(scope="module")
def site(valkey: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = ("--web=2", "--websocket=0", "--workers=1", "--schedulers=1", "--no-nginx")
    with cluster_up(tmp_path_factory.mktemp("up"), *options) as running:
        yield running


def cluster(site: Site, *arguments: str) -> str:
    """Give the command here, which is quicker than in a process of its own; return what it printed."""
    written = io.StringIO()
    with override_settings(SCALING_KIT_CLUSTER_RUN_FOLDER=str(site.folder)):
        call_command("cluster", *arguments, stdout=written)
    return written.getvalue()


def run_cluster(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "django", "cluster", *arguments],
        cwd=ROOT,
        env=environment(site.folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def web_workers(site: Site) -> frozenset[int]:
    return sessions.children(site.pid("web"))


def test_web_scaled_to_4_and_back_under_load__no_request_lost(site: Site) -> None:
    with open_load(site.port, "/?seconds=0.05") as load:
        assert cluster(site, "scale", "web=4") == "web: scaled from 2 to 4\n"
        load.wait_for(100)
        assert len(web_workers(site)) == 4
        cluster(site, "scale", "web=-2")
        wait_until(lambda: len(web_workers(site)) == 2, what="2 workers")
        load.wait_for(50)
    assert load.lost == []
    assert len(load.pids) == 4


def test_web_reloaded_under_load__no_request_lost_and_all_is_new(site: Site) -> None:
    old = web_workers(site)
    with open_load(site.port, "/?seconds=0.05") as load:
        assert "web: reloaded, 2 new workers" in cluster(site, "reload", "web")
        load.wait_for(50)
    assert load.lost == []
    wait_until(lambda: not old & web_workers(site), what="the old workers are gone")


def test_release_that_cannot_be_imported__reload_fails_with_a_reason_and_the_old_workers_stay(site: Site) -> None:
    old = web_workers(site)
    broken = site.folder / "broken_release"
    broken.touch()
    try:
        done = run_cluster(site, "reload", "web")
        assert done.returncode == 1
        assert "web: the old workers stay" in done.stderr
        assert done.stderr.count("\n") == 1
        assert web_workers(site) >= old
    finally:
        broken.unlink()
    assert "reloaded" in cluster(site, "reload", "web")


def test_web_stopped_and_started_under_load__requests_wait_and_none_is_lost(site: Site) -> None:
    with open_load(site.port, "/?seconds=0.01") as load:
        load.wait_for(20)
        cluster(site, "stop", "web")
        assert site.state["processes"]["web"]["state"] == "stopped"
        cluster(site, "start", "web")
        load.wait_for(60)
    assert load.lost == []


def test_number_it_was_scaled_to__survives_a_reload_and_a_kill_of_the_master(site: Site) -> None:
    cluster(site, "scale", "web=3")
    assert "reloaded, 3 new workers" in cluster(site, "reload", "web")
    wait_until(lambda: len(web_workers(site)) == 3, what="3 workers, the old ones gone")
    site.kill("web")
    wait_until(lambda: len(web_workers(site)) == 3, what="3 workers")
    cluster(site, "scale", "web=2")


def test_workers_and_schedulers__are_scaled_and_reloaded(site: Site) -> None:
    master = site.pid("workers")
    answer = json.loads(cluster(site, "scale", "workers=+1", "scheduler=2", "--json"))
    assert answer["done"] == {"workers": "scaled from 1 to 2", "scheduler": "scaled from 1 to 2"}
    first = site.pid("scheduler")
    old = sessions.children(master)
    said = cluster(site, "reload", "workers", "scheduler")
    assert "workers: reloaded, 2 new workers" in said
    assert site.pid("workers") == master
    assert not old & sessions.children(master)
    assert site.pid("scheduler") != first
    assert site.pid("scheduler.2")


def test_order_through_redis__is_answered_by_the_runner_of_that_host(site: Site) -> None:
    with override_settings(SCALING_KIT_KEY_PREFIX="sk"):
        client(Purpose.SCRIPT).rpush(key("cluster", "orders", members.host()), b"\xff", "rubbish", "{}")
        assert orders.give(members.host(), {"verb": "scale", "names": {"web": "2"}})["ok"]
        assert orders.give(members.host(), {"verb": "fly"})["code"] == "unknown_verb"
        with pytest.raises(orders.NoAnswerError, match="No runner of host 'nowhere'"):
            orders.give("nowhere", {"verb": "list"}, wait_seconds=0.1)
        [runner] = [member for member in members.fetch_members() if member["role"] == "runner"]
        assert int(runner["pid"]) == site.runner.pid


def test_logs__show_what_the_processes_said(site: Site) -> None:
    assert "Booting worker with pid" in cluster(site, "logs", "web", "--lines", "1000")


def test_logs_followed__show_what_comes(site: Site) -> None:
    command = [sys.executable, "-m", "django", "cluster", "logs", "web", "--follow", "--json", "--lines", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(site.folder), stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        following.stdout.readline()
        os.kill(site.pid("web"), signal.SIGTTIN)
        assert json.loads(following.stdout.readline())["name"] == "web"
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0


def test_stop_all__ends_everything(site: Site) -> None:
    """The last of this file: the others need what it ends."""
    processes = site.processes()
    assert "web: stopping" in cluster(site, "stop", "--all")
    assert site.runner.wait(5) == 0
    assert_gone(processes, within_seconds=1)
    done = run_cluster(site, "reload")
    assert done.returncode == 1
    assert "Nothing runs in" in done.stderr
