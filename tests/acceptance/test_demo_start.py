"""What `python -m demo_project` says and does when something it was given is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling_kit.cluster import run_folder
from scaling_kit.embedded import free_port

NOBODY_THERE = "127.0.0.1:1"


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


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
    return subprocess.run(
        [sys.executable, "-m", "demo_project", "--run-folder", str(folder), "--port", str(free_port())],
        cwd=Path(__file__).parents[2], env=given | environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
