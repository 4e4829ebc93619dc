"""The control socket and its verbs, with a real runner of small processes."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from scaling_kit.cluster import control
from scaling_kit.cluster.output import REMEMBERED_LINES, Output
from scaling_kit.testing import wait_until

ROOT = Path(__file__).parents[2]

# A master with children of its own, as gunicorn's: TTIN, TTOU, HUP. It is broken as long as a file says so.
MASTER = """
import json, os, pathlib, signal, subprocess, sys, time
wanted, workers, told = int(sys.argv[-1]), [], []
for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP):
    signal.signal(number, lambda number, _: told.append(number))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
spawn = lambda: workers.append(subprocess.Popen(["sleep", "1000"]))
reloads = 0

def tell(state):
    if "TELLS" in os.environ:
        outcome = {"number": reloads, "state": state, "reason": "broken release", "at": time.time()}
        pathlib.Path("new").write_text(json.dumps(outcome))
        os.rename("new", f"{os.getpid()}.reload")

while True:
    for number in told[:]:
        told.remove(number)
        wanted += (number == signal.SIGTTIN) - (number == signal.SIGTTOU)
        if number == signal.SIGHUP:
            reloads += 1
            tell("running")
            time.sleep(0.2)
            tell("aborted" if pathlib.Path("broken").exists() else "done")
            if pathlib.Path("broken").exists():
                print("reload aborted reason=broken", flush=True)
                continue
            time.sleep(float(os.environ.get("LINGERS", 0)))
            for worker in workers[:]:
                worker.kill(), worker.wait(), workers.remove(worker)
    while len(workers) < wanted:
        spawn()
    while len(workers) > wanted:
        worker = workers.pop()
        worker.kill(), worker.wait()
    time.sleep(0.02)
"""

# What runs in the runner's process of its own.
RUNNER = """
import os, sys
from dataclasses import replace
from pathlib import Path
from scaling_kit.cluster import control, run_folder
from scaling_kit.cluster.child import Process, Workers
from scaling_kit.cluster.runner import run
folder = Path(sys.argv[1])
master = [sys.executable, "-c", (folder / "master.py").read_text()]
workers = Workers(count=2, option="--workers", reload_failed="reload aborted", reload_seconds=5)
telling = replace(
    workers, reload_failed="never said", reload_outcome=lambda pid: folder / f"{pid}.reload")
sleep = ["sh", "-c", "echo hello from $0; exec sleep 1000", "sleeper"]
with run_folder.held(folder):
    run(
        [
            Process(name="web", command=master, workers=workers, folder=folder),
            Process(name="teller", command=master, folder=folder, environment={"TELLS": ""}, workers=telling),
            Process(name="lingerer", command=master, folder=folder, environment={"TELLS": "", "LINGERS": "0.5"},
                    workers=telling),
            Process(name="sleeper", command=sleep),
            Process(name="ticker", command=sleep, group="ticker"),
            Process(name="step", command=["true"], once=True),
            *(Process(name=f"twin.{number}", command=sleep, group="twin") for number in (1, 2)),
            Process(name="last", command=["true"], once=True, after=["twin.1", "twin.2"]),
            Process(name="brittle", command=["sh", "-c", "test ! -e broken && exec sleep 1000"], folder=folder,
                    required=False, is_ready=lambda: not (folder / "broken").exists()),
        ],
        control_socket=control.socket_file(folder),
        on_ready=lambda: print("ready", flush=True),
        on_change=lambda states: run_folder.write_state(folder, {"runner": os.getpid(), "processes": states}),
    )
"""


@dataclass
class Host:
    """A runner in a process of its own, and what can be asked of it."""

    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        (self.folder / "master.py").write_text(MASTER)
        with (self.folder / "output").open("wb") as output:
            command = [sys.executable, "-c", RUNNER, str(self.folder)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        wait_until(lambda: "\nready" in self.output, what="the runner is ready")

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def ask(self, verb: str, names: object = (), **order: object) -> dict[str, Any]:
        return control.ask(control.socket_file(self.folder), {"verb": verb, "names": names, **order})

    def process_named(self, name: str) -> dict[str, Any]:
        return next(found for found in self.ask("list")["processes"] if found["name"] == name)

    def pids(self, name: str) -> set[int]:
        """Of all the processes of its session but the leader."""
        [described] = self.ask("describe", [name])["processes"]
        return set(described["pids"]) - {described["pid"]}


@contextmanager
def hosted(folder: Path) -> Iterator[Host]:
    host = Host(folder)
    host.start()
    try:
        yield host
    finally:
        host.process.terminate()
        host.process.wait(10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosted(tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture
def host(shared: Host, settings: Any) -> Host:
    """One runner for all tests of this file, and the one that commands reach."""
    settings.SCALING_KIT_CLUSTER_RUN_FOLDER = str(shared.folder)
    (shared.folder / "broken").unlink(missing_ok=True)
    return shared


def run_command(*arguments: str) -> str:
    written = io.StringIO()
    call_command("cluster", *arguments, stdout=written)
    return written.getvalue()


def test_socket__is_for_its_owner_only(host: Host) -> None:
    assert stat.S_IMODE(control.socket_file(host.folder).stat().st_mode) == 0o600


def test_list__says_what_runs_and_what_it_costs(host: Host) -> None:
    sleeper = host.process_named("sleeper")
    assert sleeper["state"] == "ready"
    assert sleeper["rss_bytes"] > 0
    assert sleeper["since"] <= time.time()
    assert host.process_named("step")["state"] == "done"
    assert host.process_named("web")["workers"] == 2


def test_garbage__is_answered_with_a_reason_and_the_connection_goes_on(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as answers:
        connection.connect(str(control.socket_file(host.folder)))
        for line, code in (
            (b"{", "malformed"),
            (b"[]", "malformed"),
            (b'{"verb": "fly"}', "unknown_verb"),
            (b'{"verb": "logs", "lines": "x"}', "malformed"),
        ):
            connection.sendall(line + b"\n")
            assert json.loads(answers.readline())["code"] == code


@pytest.mark.parametrize("order", [{"names": 5}, {"names": {"web": {}}}, {"names": {}}, {"names": ["web"]}])
def test_scale_with_nonsense__is_malformed(host: Host, order: dict) -> None:
    assert host.ask("scale", **order)["code"] == "malformed"


def test_scaled__has_so_many_workers_and_has_them_after_a_crash(host: Host) -> None:
    assert host.ask("scale", {"web": "4"})["done"] == {"web": "scaled from 2 to 4"}
    assert len(host.pids("web")) == 4
    os.kill(killed := host.process_named("web")["pid"], signal.SIGKILL)
    wait_until(lambda: host.process_named("web")["pid"] not in (None, killed))
    wait_until(lambda: len(host.pids("web")) == 4, what="4 workers")
    assert host.ask("scale", {"web": "-2"})["ok"]
    wait_until(lambda: len(host.pids("web")) == 2, what="2 workers")


@pytest.mark.parametrize("amount", ["0", "-2", "9999"])
def test_scaled_out_of_range__is_refused(host: Host, amount: str) -> None:
    assert host.ask("scale", {"web": amount})["code"] == "out_of_range"


def test_group__is_scaled_by_starting_and_stopping(host: Host) -> None:
    first = host.process_named("ticker")["pid"]
    assert host.ask("scale", {"ticker": "+2"})["done"] == {"ticker": "scaled from 1 to 3"}
    assert {"ticker", "ticker.2", "ticker.3"} <= {found["name"] for found in host.ask("list")["processes"]}
    assert host.ask("scale", {"ticker": "1"})["ok"]
    assert host.process_named("ticker")["pid"] == first
    assert "ticker.2" not in {found["name"] for found in host.ask("list")["processes"]}


def test_group_with_a_stopped_one__is_made_smaller(host: Host) -> None:
    host.ask("scale", {"ticker": "2"})
    host.ask("stop", ["ticker.2"])
    assert host.ask("scale", {"ticker": "1"})["done"] == {"ticker": "scaled from 2 to 1"}


def test_what_waits_for_a_group__does_not_wait_for_one_that_was_removed(host: Host) -> None:
    host.ask("scale", {"twin": "1"})
    assert host.ask("restart", ["last"])["ok"]


def test_stopped_process__is_scaled_from_its_next_start_on(host: Host) -> None:
    host.ask("stop", ["web"])
    assert host.ask("reload", ["web"])["reason"] == "web: it does not run: its state is 'stopped'"
    host.ask("scale", {"web": "3"})
    host.ask("start", ["web"])
    wait_until(lambda: len(host.pids("web")) == 3, what="3 workers")
    host.ask("scale", {"web": "2"})
    wait_until(lambda: len(host.pids("web")) == 2, what="2 workers")


def test_reloaded__has_new_workers_under_the_old_master(host: Host) -> None:
    master, old = host.process_named("web")["pid"], host.pids("web")
    assert host.ask("reload", ["web"])["done"] == {"web": "reloaded, 2 new workers"}
    assert not old & host.pids("web")
    assert host.process_named("web")["pid"] == master


def test_reload_that_fails__says_why_and_keeps_the_old_workers(host: Host) -> None:
    old = host.pids("web")
    (host.folder / "broken").touch()
    with pytest.raises(CommandError, match="web: the old workers stay: reload aborted reason=broken"):
        run_command("reload", "web")
    assert host.pids("web") == old


def test_master_that_tells_how_its_reload_went__is_believed(host: Host) -> None:
    for _ in range(2):
        [told] = host.ask("reload", ["teller"])["done"].values()
        assert told.startswith("reloaded, 2 new workers")  # an old one may be about to end
    (host.folder / "broken").touch()
    refused = host.ask("reload", ["teller"])
    assert refused["code"] == "reload_failed"
    assert refused["reason"] == "teller: the old workers stay: broken release"


def test_reload_that_is_done_while_old_workers_finish__is_done(host: Host) -> None:
    done = host.ask("reload", ["lingerer"])
    assert done["done"] == {"lingerer": "reloaded, 2 new workers, 2 old ones still finish their work"}


def test_reload_of_what_cannot_be_reloaded__is_refused(host: Host) -> None:
    assert host.ask("reload", ["sleeper"])["code"] == "not_reloadable"


def test_stopped__stays_so_until_it_is_started(host: Host) -> None:
    first = host.process_named("sleeper")["pid"]
    assert run_command("stop", "sleeper") == "sleeper: stopped\n"
    assert host.process_named("sleeper")["state"] == "stopped"
    assert host.process_named("sleeper")["pid"] is None
    assert run_command("stop", "sleeper") == "sleeper: was stopped already\n"
    assert "sleeper: started, pid" in run_command("start", "sleeper")
    assert host.process_named("sleeper")["pid"] != first
    assert run_command("start", "sleeper") == "sleeper: was ready already\n"


def test_restarted__is_another_process(host: Host) -> None:
    first = host.process_named("sleeper")["pid"]
    answer = json.loads(run_command("restart", "sleeper", "--json"))
    assert answer["ok"]
    assert host.process_named("sleeper")["pid"] not in (None, first)


def test_restart_of_what_does_not_come_up__says_so_and_is_tried_again(host: Host) -> None:
    (host.folder / "broken").touch()
    with pytest.raises(CommandError, match="brittle ended soon after its start with status 1; it is tried again"):
        run_command("restart", "brittle")
    (host.folder / "broken").unlink()
    wait_until(lambda: host.process_named("brittle")["state"] == "ready", what="brittle is back")


@pytest.mark.parametrize("verb", ["reload", "restart", "stop", "start", "describe", "logs"])
def test_unknown_name__nearest_one_is_told(host: Host, verb: str) -> None:
    with pytest.raises(CommandError, match="'sleper' is no name here: did you mean 'sleeper'"):
        run_command(verb, "sleper")


def test_unknown_name_to_scale__what_can_be_scaled_is_told(host: Host) -> None:
    with pytest.raises(CommandError, match="'sleeper' is no name here: there are web, teller, lingerer, ticker, twin"):
        run_command("scale", "sleeper=2")


def test_stop_without_a_name__needs_all(host: Host) -> None:
    with pytest.raises(CommandError, match="takes names of processes, or --all"):
        run_command("stop")


def test_second_order_about_a_process__is_refused_meanwhile(host: Host) -> None:
    (host.folder / "broken").touch()
    try:
        first = threading.Thread(target=host.ask, args=("restart", ["brittle"]))
        first.start()
        wait_until(lambda: host.ask("start", ["brittle"]).get("code") == "busy", what="busy")
    finally:
        (host.folder / "broken").unlink()
        first.join()


def test_logs__are_the_last_lines_of_those_named(host: Host) -> None:
    assert run_command("logs", "sleeper", "--lines", "1") == "sleeper     | hello from sleeper\n"
    line = json.loads(run_command("logs", "sleeper", "--lines", "1", "--json"))
    assert line["name"] == "sleeper"
    assert line["text"] == "hello from sleeper"
    assert "runner      | ready name=sleeper" in run_command("logs", "runner", "--lines", "1000")


def test_describe__tells_everything(host: Host) -> None:
    assert "command               sh -c" in run_command("describe", "sleeper")
    assert run_command("describe").startswith("name ")
    [described] = json.loads(run_command("describe", "web", "--json"))
    assert described["command"][-2:] == ["--workers", "2"]


def test_nothing_runs__is_one_line_that_says_how_to_start(tmp_path: Path, settings: Any) -> None:
    settings.SCALING_KIT_CLUSTER_RUN_FOLDER = str(tmp_path)
    with pytest.raises(CommandError, match=f"Nothing runs in {tmp_path}. Start it there with `manage.py cluster up`"):
        run_command("reload")


def restart_brittle(host: Host) -> None:
    with suppress(control.NoRunnerError):
        host.ask("restart", ["brittle"])


def test_runner_ended_in_the_midst_of_a_restart__ends_all_the_same(tmp_path: Path) -> None:
    with hosted(tmp_path) as host:
        (tmp_path / "broken").touch()
        asking = threading.Thread(target=restart_brittle, args=[host])
        asking.start()
        wait_until(lambda: host.ask("start", ["brittle"]).get("code") == "busy", what="busy")
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(5) == 0
        asking.join()


def test_stop_all__ends_the_runner_and_returns_afterwards(tmp_path: Path, settings: Any) -> None:
    settings.SCALING_KIT_CLUSTER_RUN_FOLDER = str(tmp_path)
    with hosted(tmp_path) as host:
        run_command("stop", "--all")
        assert host.process.wait(5) == 0
        assert not control.socket_file(tmp_path).exists()


def test_socket_of_a_killed_runner__is_replaced(tmp_path: Path) -> None:
    with hosted(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait()
        assert control.socket_file(tmp_path).exists()
        with pytest.raises(control.NoRunnerError):
            killed.ask("list")
    with hosted(tmp_path) as host:
        assert host.ask("list")["ok"]


def test_output__remembers_a_bounded_number_of_lines() -> None:
    output = Output(io.StringIO())
    for number in range(REMEMBERED_LINES + 5):
        output.line("talker", f"line {number}")
    output.line("other", "x" * 10_000)
    lines = output.last_lines(["talker"], limit=REMEMBERED_LINES * 2)
    assert len(lines) == REMEMBERED_LINES
    assert lines[-1].text == f"line {REMEMBERED_LINES + 4}"
    assert [line.name for line in output.last_lines([], limit=10, after=lines[-1].number)] == ["other"]
