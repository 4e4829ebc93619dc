"""A running `manage.py cluster up` of the small project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psutil
import pytest

from scaling_kit.cluster import run_folder
from scaling_kit.testing import wait_until

ROOT = Path(__file__).parents[2]
SETTINGS = "tests.projects.site.settings"


@dataclass
class Site:
    """A running `cluster up`."""

    folder: Path
    runner: subprocess.Popen[bytes]

    @property
    def state(self) -> dict:
        return run_folder.read_state(self.folder) or {"url": "", "processes": {}}

    @property
    def url(self) -> str:
        return self.state["url"]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def pid(self, name: str) -> int:
        return self.state["processes"][name]["pid"]

    def is_ready(self) -> bool:
        if self.runner.poll() is not None:
            pytest.fail(f"the runner ended: {(self.folder / 'output').read_text()}")
        states = {process["state"] for process in self.state["processes"].values()}
        return states == {"ready"}

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, timeout_seconds=30, what="cluster up is ready")

    def processes(self) -> list[psutil.Process]:
        """The runner, its children and theirs."""
        runner = psutil.Process(self.runner.pid)
        return [runner, *runner.children(recursive=True)]

    def kill(self, name: str) -> None:
        """Kill it and wait for its successor."""
        killed = self.pid(name)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self.pid(name) not in (None, killed) and self.is_ready(), what=f"{name} is back")


S = TypeVar("S", bound=Site)


@contextmanager
def cluster_up(
    folder: Path, *options: str, settings: str = SETTINGS, kind: type[S] = Site, **more_environment: str
) -> Iterator[S]:
    """Started and ready."""
    with (folder / "output").open("wb") as output:
        runner = subprocess.Popen(
            [sys.executable, "-m", "django", "cluster", "up", *options],
            cwd=ROOT,
            env=environment(folder, settings) | more_environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    site = kind(folder=folder, runner=runner)
    try:
        site.wait_until_ready()
        yield site
    finally:
        runner.terminate()
        runner.wait(timeout=40)


def environment(folder: Path, settings: str = SETTINGS) -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": settings, "RUN_FOLDER": str(folder)}
