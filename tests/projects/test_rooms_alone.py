"""Each room works alone in INSTALLED_APPS; a missing library is a check with a hint, not a traceback."""

import subprocess
import sys

import pytest

ROOMS = ["tokens", "media", "cache", "realtime", "jobs", "scheduler", "cluster"]
LIBRARY = {
    "tokens": "rest_framework_simplejwt",
    "media": "storages",
    "cache": "rest_framework",
    "realtime": "channels",
    "jobs": "rq",
    "scheduler": "cronsim",
    "cluster": "gunicorn",
}


def check(room: str, *without: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.projects.run_check", room]
    return subprocess.run(
        [*command, "--without", *without] if without else command, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("room", ROOMS)
def test_room_alone__checks_clean(room: str) -> None:
    done = check(room)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_library_missing__says_which_extra_to_install(room: str) -> None:
    beside = ["django_rq"] if room == "jobs" else []
    done = check(room, LIBRARY[room], *beside)
    assert done.returncode == 1
    assert f"pip install 'scaling-kit[{room}]'" in done.stderr
    assert "Traceback" not in done.stderr
