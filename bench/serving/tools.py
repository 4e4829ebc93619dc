"""What the benches need beside Python packages of this project, fetched once into `.run/bench`.

Each function raises `MissingError`, which says in words what to do, if it cannot be had.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench.race.processes import ROOT

FOLDER = ROOT / ".run" / "bench"
PATIENCE_SECONDS = 240
LONGEST_COMPLAINT = 400  # characters
DEBIAN_PACKAGES = ("wrk", "libluajit-5.1-2")


class MissingError(Exception):
    """Something this bench needs is not here. The message says what to do."""


def in_one_line(error: Exception) -> str:
    """The end of it: a process that ended has quoted its log."""
    words = " ".join(str(error).split())
    return words if len(words) <= LONGEST_COMPLAINT else f"... {words[-LONGEST_COMPLAINT:]}"


@dataclass(frozen=True, kw_only=True)
class Program:
    path: str
    environment: Mapping[str, str] = field(default_factory=dict)


@cache
def wrk() -> Program:
    """The load generator: of the PATH, or out of Debian's packages, unpacked and not installed."""
    if found := shutil.which("wrk"):
        return Program(path=found)
    folder = FOLDER / "wrk"
    program = folder / "usr" / "bin" / "wrk"
    if not program.exists():
        _unpack_debian_packages(folder)
    libraries = next(folder.glob("usr/lib/*/libluajit*")).parent
    return Program(path=str(program), environment={"LD_LIBRARY_PATH": str(libraries)})


@cache
def node_modules(*packages: str) -> Path:
    """A folder for NODE_PATH with these packages of npm in it."""
    if not (shutil.which("npm") and shutil.which("node")):
        raise MissingError("there is no npm: install Node.js")
    folder = FOLDER / "npm"
    found = folder / "node_modules"
    missing = [name for name in packages if not (found / name / "package.json").exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--prefix", str(folder))
        # All of them, or npm takes the others for leftovers and removes them.
        present = [path.parent.name for path in found.glob("*/package.json")] if found.exists() else []
        known = [name for name in ("pm2", "jsonwebtoken", "redis") if name in present or name in packages]
        _run(["npm", "install", *options, *known], "npm install failed")
    return found


@cache
def python_packages(*packages: str) -> Path:
    """A folder for PYTHONPATH with these packages in it, which are not of this environment."""
    folder = FOLDER / "python-{}.{}".format(*sys.version_info) / "-".join(packages)
    if not folder.exists():
        draft = folder.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--target", str(draft), *packages], "pip install failed")
        draft.rename(folder)
    return folder


def versions() -> list[str]:
    """Of what has been fetched."""
    found = [json.loads(path.read_text()) for path in FOLDER.glob("npm/node_modules/*/package.json")]
    wanted = [f"{each['name']} {each['version']}" for each in found if each["name"] in {"pm2", "jsonwebtoken", "redis"}]
    if shutil.which("node"):
        done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        wanted.append(f"Node.js {done.stdout.strip()}")
    python = (FOLDER / "python-{}.{}".format(*sys.version_info)).glob("*/granian-*.dist-info")
    return wanted + [path.name.removesuffix(".dist-info").replace("-", " ") for path in python]


def _unpack_debian_packages(folder: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise MissingError("there is no wrk: install it (github.com/wg/wrk)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run(["apt-get", "download", *DEBIAN_PACKAGES], "there is no wrk: apt install wrk", cwd=folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(folder)], "wrk could not be unpacked: apt install wrk")


def _run(command: Sequence[str], complaint: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{complaint}: no end within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        raise MissingError(f"{complaint}: {done.stderr.strip()[-300:]}")
