"""`manage.py cluster up` with processes of the project's own, memory limits and backoff; monit; in the background."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from scaling_kit.cluster import control, run_folder
from scaling_kit.testing import wait_until
from tests.acceptance.processes import assert_gone
from tests.acceptance.sites import ROOT, Site, cluster_up, environment

LIMITED = "tests.projects.site.limited"


class Host(Site):
    def is_ready(self) -> bool:
        """One of its processes never is, which must not matter."""
        states = {name: process["state"] for name, process in self.state["processes"].items() if name != "broken"}
        assert self.runner.poll() is None, (self.folder / "output").read_text()
        return set(states.values()) == {"ready"}

    def ask(self, verb: str, *names: str, **order: object) -> dict:
        return control.ask(control.socket_file(self.folder), {"verb": verb, "names": names, **order})

    def said(self, name: str) -> list[str]:
        return [line["text"] for line in self.ask("logs", name, lines=1000)["lines"]]


@pytest.fixture(scope="module")
def site(valkey: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with cluster_up(tmp_path_factory.mktemp("limited"), "--no-nginx", settings=LIMITED, kind=Host) as running:
        yield running


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "django", "cluster", *arguments]


def run_cluster(folder: Path, *arguments: str, settings: str = LIMITED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        cwd=ROOT,
        env=environment(folder, settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_settings__say_what_runs_and_how(site: Host) -> None:
    described = {process["name"]: process for process in site.ask("describe")["processes"]}
    assert set(described) == {
        *("web", "workers", "scheduler.1", "scheduler.2"),
        *("mailer.1", "mailer.2", "broken"),
    }
    assert described["web"]["workers"] == described["workers"]["workers"] == 1
    assert "--memory-max-mb 900" in " ".join(described["web"]["command"])
    assert "--max-memory 900000000" in " ".join(described["workers"]["command"])
    assert described["scheduler.1"]["memory_max_mb"] == 900


def test_own_processes__have_folder_and_environment_and_know_their_name(site: Host) -> None:
    assert f"hello from mailer.1 hi {site.folder}" in site.said("mailer.1")
    assert f"hello from mailer.2 hi {site.folder}" in site.said("mailer.2")


def test_own_processes__are_scaled_and_reloaded(site: Host) -> None:
    assert site.ask("scale", names={"mailer": "3"})["done"] == {"mailer": "scaled from 2 to 3"}
    before = site.pid("mailer.3")
    assert "mailer.3" in site.ask("reload", "mailer")["done"]
    assert site.pid("mailer.3") != before
    site.ask("scale", names={"mailer": "2"})


def test_own_process_that_crash_loops__is_tried_again_as_the_settings_say_and_ends_nothing(site: Host) -> None:
    seen = len(restarts_of_broken(site))
    wait_until(lambda: len(restarts_of_broken(site)) >= seen + 3, what="more attempts")
    times = restarts_of_broken(site)
    assert min(later - sooner for sooner, later in pairwise(times)) >= 0.2
    assert "".join(site.said("runner")).count("failed name=broken") == 1
    assert site.runner.poll() is None


def restarts_of_broken(site: Host) -> list[float]:
    lines = site.ask("logs", "runner", lines=1000)["lines"]
    return [line["at"] for line in lines if "restarting name=broken" in line["text"]]


def test_process_above_its_memory_limit__is_restarted_with_its_own_signal_and_alone(site: Host) -> None:
    others = {name: site.pid(name) for name in ("web", "workers", "scheduler.1")}
    site.ask("reset")
    (site.folder / "grow").touch()
    site.ask("restart", "mailer.1")
    large = site.pid("mailer.1")
    wait_until(lambda: "too large name=mailer.1" in "".join(site.said("runner")), what="the limit is kept")
    (site.folder / "grow").unlink()
    wait_until(lambda: site.pid("mailer.1") not in (None, large) and site.is_ready(), what="a small one runs")
    assert others == {name: site.pid(name) for name in others}


def test_reset__counts_starts_anew(site: Host) -> None:
    site.ask("restart", "mailer.2")
    assert site.state["processes"]["mailer.2"]["starts"] >= 2
    assert "mailer.2: starts are counted anew" in run_cluster(site.folder, "reset", "mailer.2").stdout
    [described] = site.ask("describe", "mailer.2")["processes"]
    assert described["starts"] == 1


def test_monit_not_on_a_terminal__prints_one_frame(site: Host) -> None:
    done = run_cluster(site.folder, "monit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("name ")
    assert "restarts  cpu" in done.stdout
    assert "all hosts: " in done.stdout
    assert "requests/s" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("end", [b"q", b"\x03"])
def test_monit_on_a_terminal__is_drawn_again_until_a_key_ends_it(site: Host, end: bytes) -> None:
    terminal, inner = pty.openpty()
    watching = subprocess.Popen(
        command(site.folder, "monit"),
        cwd=ROOT,
        env=environment(site.folder, LIMITED),
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=control_terminal,
    )
    os.close(inner)
    try:
        shown = read(terminal, until="\x1b[H", times=2)
        assert shown.startswith("\x1b[?1049h")
        assert "mailer.1" in shown
        os.write(terminal, end)
        assert read(terminal, until="\x1b[?1049l").endswith("\x1b[?1049l")
        assert watching.wait(5) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(terminal)


def control_terminal() -> None:
    """Ctrl-C is a signal only to those whose controlling terminal it is."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def read(terminal: int, *, until: str, times: int = 1) -> str:
    found, deadline = "", time.monotonic() + 20
    while found.count(until) < times:
        assert time.monotonic() < deadline, found
        if select.select([terminal], [], [], 1)[0]:
            found += os.read(terminal, 65536).decode()
    return found


def test_detached__returns_when_ready_and_stops_by_order(valkey: None, tmp_path: Path) -> None:
    done = run_cluster(tmp_path, "up", "--no-nginx", "--detach", "--log=json", *NOTHING_BUT_WEB, settings=SITE)
    assert done.returncode == 0, done.stderr
    state = run_folder.read_state(tmp_path)
    assert state is not None
    assert f"Runs with pid {state['runner']}" in done.stdout
    assert state["processes"]["web"]["state"] == "ready"
    runner = psutil.Process(state["runner"])
    processes = [runner, *runner.children(recursive=True)]
    lines = [json.loads(line) for line in (tmp_path / "cluster.log").read_text().splitlines()]
    assert any(line["name"] == "web" and "Booting worker" in line["text"] for line in lines)
    second = run_cluster(tmp_path, "up", "--detach", settings=SITE)
    assert second.returncode == 1
    assert f"in use by the runner with pid {state['runner']}" in second.stderr
    assert run_cluster(tmp_path, "stop", "--all", settings=SITE).returncode == 0
    assert_gone(processes, within_seconds=2)


def test_wrong_settings__are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(f"from {SITE} import *\nSCALING_KIT_CLUSTER_PROCESSES = {{'wbe': 2}}\n")
    done = subprocess.run(
        command(tmp_path, "up"),
        cwd=ROOT,
        env=environment(tmp_path, "wrong") | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'wbe' is none of web, websocket, workers, scheduler, and has no command. Did you mean 'web'?" in done.stderr


SITE = "tests.projects.site.settings"
NOTHING_BUT_WEB = ("--web=1", "--websocket=0", "--workers=0", "--schedulers=0")


def test_detached_and_broken__fails_with_the_reason(valkey: None, tmp_path: Path) -> None:
    (tmp_path / "broken_release").touch()
    done = run_cluster(tmp_path, "up", "--no-nginx", "--detach", *NOTHING_BUT_WEB)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "web: ended 2 times in a row" in done.stderr
    assert "broken_release" not in done.stderr
    assert run_folder.read_state(tmp_path) is None


def test_runner_killed_and_started_again_at_once__runs(valkey: None, tmp_path: Path) -> None:
    with cluster_up(tmp_path, "--no-nginx", *NOTHING_BUT_WEB) as killed:
        address = killed.url.removeprefix("http://")
        processes = killed.processes()
        killed.runner.send_signal(signal.SIGKILL)
        killed.runner.wait()
        assert_gone(processes, within_seconds=3)
        with cluster_up(tmp_path, "--no-nginx", f"--bind={address}", *NOTHING_BUT_WEB) as again:
            assert again.url == killed.url
