"""The systemd units of `cluster startup`, and the socket that systemd opens."""

import configparser
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from scaling_kit.cluster import listening, startup

SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
# What a child does that was started as systemd starts it.
ADOPT = """
import os, socket, sys
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), sys.argv[2]
os.dup2(int(sys.argv[1]), 3)
from scaling_kit.cluster import listening
from scaling_kit.cluster.output import Output
sockets = listening.open_sockets(("127.0.0.1", 1), or_after=False, behind_nginx=False, output=Output())
print(sockets.web.getsockname()[1], sockets.web.get_inheritable(), "LISTEN_FDS" in os.environ)
"""


def unit(*options: str) -> str:
    written = io.StringIO()
    call_command("cluster", "startup", *options, stdout=written)
    return written.getvalue()


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_service__runs_this_project_as_this_user() -> None:
    service = parsed(unit("--user", "daemon", "--bind", "0.0.0.0:80", "--environment-file", "/etc/site.env"))["Service"]
    assert service["User"] == "daemon"
    assert service["WorkingDirectory"] == str(Path.cwd())
    assert service["EnvironmentFile"] == "/etc/site.env"
    assert service["ExecStart"] == f"{sys.executable} -m django cluster up --bind 0.0.0.0:80"
    assert service["ExecReload"] == f"{sys.executable} -m django cluster reload"
    assert "Environment=DJANGO_SETTINGS_MODULE=tests.settings" in unit()


def test_service__is_given_the_time_that_its_slowest_process_has_to_stop(settings: Any) -> None:
    settings.SCALING_KIT_CLUSTER_PROCESSES = {"mailer": {"command": ["x"], "stop_seconds": 100}}
    assert parsed(unit())["Service"]["TimeoutStopSec"] == "115"


@pytest.mark.parametrize(
    ("text", "word"),
    [("a=b", "a=b"), ("a=b c", '"a=b c"'), ("50%", '"50%%"'), ('say "x"', '"say \\"x\\""'), ("a\\b", '"a\\\\b"')],
)
def test_odd_words__are_quoted(text: str, word: str) -> None:
    assert startup.quoted(text) == word


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="no systemd here")
def test_units__are_found_good_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "50% of a project"
    odd.mkdir()
    monkeypatch.chdir(odd)
    (tmp_path / "site.env").touch()
    (tmp_path / "site.service").write_text(unit("--name", "site", "--environment-file", str(tmp_path / "site.env")))
    (tmp_path / "site.socket").write_text(unit("--name", "site", "--socket", "--bind", "0.0.0.0:8000"))
    for name in ("site.service", "site.socket"):
        command = [str(SYSTEMD_ANALYZE), "verify", "--man=no", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if "site." in line]
        assert complaints == []


@pytest.mark.parametrize(("number", "status"), [("1", 0), ("2", 1)])
def test_socket_of_systemd__is_used_and_not_handed_on(number: str, status: int) -> None:
    with listening.listen("127.0.0.1", 0) as held:
        done = subprocess.run(
            [sys.executable, "-c", ADOPT, str(held.fileno()), number],
            pass_fds=[held.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        if status:
            assert "LISTEN_FDS=2: give one listening socket" in done.stderr
        else:
            assert done.stdout.split() == [str(held.getsockname()[1]), "False", "False"]
