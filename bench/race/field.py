"""The contestants, each exactly as configured here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from bench.race.processes import ROOT

STOCK = {"DJANGO_SETTINGS_MODULE": "bench.race.stock"}
KIT = {"DJANGO_SETTINGS_MODULE": "bench.race.settings"}
PYTHON = (sys.executable, "-m")
BULLMQ = str(Path(__file__).with_name("bullmq.cjs"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """`width`: how many jobs it runs at once. `why_absent` says why it cannot run here, or nothing."""

    name: str
    configured: str
    worker: tuple[str, ...]
    sender: tuple[str, ...]
    width: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    why_absent: Callable[[], str] = lambda: ""


def contestants(node_modules: Path) -> list[Contestant]:
    """All of them. BullMQ is installed into `node_modules` when it is first asked whether it can run."""
    return [*_kit(), *_rq(), *_celery(), *_dramatiq(), *_bullmq(node_modules)]


def versions(node_modules: Path) -> list[str]:
    """Of what pip does not know of."""
    packages = [node_modules / name / "package.json" for name in ("bullmq", "ioredis")]
    found = [json.loads(path.read_text()) for path in packages if path.exists()]
    return [f"{package['name']} {package['version']}" for package in found]


def _kit() -> list[Contestant]:
    wide = 8
    modes = {"simple": ((), 1), "threads": (("--concurrency", str(wide)), wide), "fork": ((), 1)}
    return [
        Contestant(
            name=f"kit {mode}" + (f" x{width}" if width > 1 else ""),
            configured=f"runworkers --mode {mode} {' '.join(options)}".rstrip() + " --processes 1, its upkeep included",
            worker=(
                *PYTHON,
                *("django", "runworkers", "--mode", mode, *options, "--processes", "1", "--queues", "default"),
            ),
            sender=_python_sender("tasks"),
            width=width,
            environment=KIT,
            why_absent=partial(_why_no_mode, mode),
        )
        for mode, (options, width) in modes.items()
    ]


def _rq() -> list[Contestant]:
    # fmt: off
    command = (
        *PYTHON, "django", "rqworker", "default", "--with-scheduler", "--verbosity", "0",
        "--serializer", "rq.serializers.JSONSerializer", "--worker-class",
    )
    # fmt: on
    return [
        Contestant(
            name=f"rq {name}",
            configured="django-rq's rqworker, JSON serializer, --with-scheduler, one queue",
            worker=(*command, f"rq.worker.{name}"),
            sender=_python_sender("rq_jobs"),
            environment=STOCK,
        )
        for name in ("SimpleWorker", "Worker")
    ]


def _celery() -> list[Contestant]:
    variants = [
        ("celery prefork x1", "prefork", 1, "", "results in Redis, acknowledged before the job (its default)"),
        ("celery prefork x1 acks_late", "prefork", 1, "acks_late", "results in Redis, acknowledged after the job"),
        ("celery prefork x1 ignore_result", "prefork", 1, "ignore_result", "no results, acknowledged before the job"),
        ("celery threads x8", "threads", 8, "", "results in Redis, acknowledged before the job (its default)"),
    ]
    about = "JSON, Django's fixup, prefetch 4, gossip and mingle on"
    command = (*PYTHON, "celery", "-A", "bench.race.celery_jobs", "worker", "-l", "WARNING")
    return [
        Contestant(
            name=name,
            configured=f"-P {pool} -c{width}, {configured}, {about}",
            worker=(*command, "-P", pool, f"-c{width}"),
            sender=_python_sender("celery_jobs"),
            width=width,
            environment={**STOCK, "BENCH_CELERY": options},
            why_absent=partial(_why_not_installed, "celery"),
        )
        for name, pool, width, options, configured in variants
    ]


def _dramatiq() -> list[Contestant]:
    variants = [("dramatiq x1", 1, ""), ("dramatiq x8", 8, ""), ("dramatiq x8 results", 8, "results")]
    command = (*PYTHON, "dramatiq", "bench.race.dramatiq_jobs", "--processes", "1", "--threads")
    return [
        Contestant(
            name=name,
            configured=f"one process, {width} thread(s), Redis broker, {options or 'no results'}",
            worker=(*command, str(width)),
            sender=_python_sender("dramatiq_jobs"),
            width=width,
            environment={**STOCK, "BENCH_DRAMATIQ": options},
            why_absent=partial(_why_not_installed, "dramatiq"),
        )
        for name, width, options in variants
    ]


def _bullmq(node_modules: Path) -> list[Contestant]:
    return [
        Contestant(
            name=f"bullmq x{width}",
            configured=f"Node.js, concurrency {width}, completed jobs kept (its default)",
            worker=("node", BULLMQ, "work", str(width)),
            sender=("node", BULLMQ, "send"),
            width=width,
            environment={"NODE_PATH": str(node_modules)},
            why_absent=partial(_why_no_bullmq, node_modules),
        )
        for width in (1, 10)
    ]


def _python_sender(module: str) -> tuple[str, ...]:
    return (*PYTHON, "bench.race.sender", f"bench.race.{module}")


def _why_not_installed(module: str) -> str:
    return "" if find_spec(module) else f"{module} is not installed: pip install -e '.[bench]'"


@cache
def _help_of_runworkers() -> str:
    # Its modes stand in the usage, as {fork,simple}. Django's own settings do: help needs none of a project.
    command = [*PYTHON, "django", "runworkers", "--help"]
    environment = {**KIT, "BENCH_REDIS_URL": "redis://unused", "BENCH_MARKS": "/dev/null"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _why_no_mode(mode: str) -> str:
    known = mode in _help_of_runworkers().replace("{", ",").replace("}", ",").split(",")
    return "" if known else f"this runworkers has no --mode {mode}"


@cache
def _why_no_bullmq(node_modules: Path) -> str:
    if not (shutil.which("npm") and shutil.which("node")):
        return "there is no npm"
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(node_modules.parent)]
    try:
        done = subprocess.run([*command, "bullmq", "ioredis"], capture_output=True, text=True, check=False, timeout=180)
    except subprocess.TimeoutExpired:
        return "npm install took more than three minutes"
    return "" if done.returncode == 0 else f"npm install failed: {done.stderr.strip()[-200:]}"
