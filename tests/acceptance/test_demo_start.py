"""How `python -m demo_project` starts and ends, and what it says when something it was given is not there."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling_kit.cluster import run_folder
from scaling_kit.embedded import free_port
from tests.acceptance.demo import Demo
from tests.acceptance.processes import assert_gone

ROOT = Path(__file__).parents[2]
NOBODY_THERE = "127.0.0.1:1"
SMALL = ("--no-seed", "--web=1", "--websocket=1", "--workers=1")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"REDIS_URL": f"redis://:secret@{NOBODY_THERE}/0"},
            f"REDIS_URL: Redis at redis://:***@{NOBODY_THERE}/0 cannot",
        ),
        ({"DATABASE_URL": f"postgres://u:secret@{NOBODY_THERE}/d"}, "DATABASE_URL: PostgreSQL at postgres://u:***@"),
        ({"S3_ENDPOINT_URL": f"http://{NOBODY_THERE}"}, "S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY must be too"),
        (
            {"S3_ENDPOINT_URL": f"http://{NOBODY_THERE}", "S3_BUCKET": "b", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "s"},
            f"S3_ENDPOINT_URL: S3 at http://{NOBODY_THERE} cannot be used",
        ),
    ],
)
def test_given_service_that_is_away__is_one_line_and_a_failure(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    done = start(tmp_path, **environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_second_demo_on_the_same_data__is_refused(tmp_path: Path) -> None:
    with run_folder.held(tmp_path):
        done = start(tmp_path)
    assert done.returncode == 1
    assert f"in use by the runner with pid {os.getpid()}" in done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to the other user that PostgreSQL runs as when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="scaling_kit-demo-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_demo_killed__leaves_no_process_and_starts_again(folder: Path) -> None:
    with Demo(folder, options=SMALL) as demo:
        demo.start()
        processes = demo.descendants()
        names = {
            name for process in processes for name in ("postgres", "rclone", "valkey-server") if name in process.name()
        }
        assert len(names) == 3
        demo.kill()
        assert_gone(processes, within_seconds=3)
        demo.start()
        assert demo.stop(signal.SIGINT) == 0


def start(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(folder), cwd=ROOT, env=given() | environment, capture_output=True, text=True, timeout=30, check=False
    )


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "demo_project", "--run-folder", str(folder), "--port", str(free_port()), *SMALL]


def given() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
