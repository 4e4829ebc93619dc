"""The servers, each exactly as configured here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from bench.serving import tools

VIEWS = ("json", "jwt", "feed")
PYTHON = (sys.executable, "-m")
KIT_SERVE = (*PYTHON, "scaling_kit.cluster.serve", "--workers", "{workers}", "--bind", "127.0.0.1:{port}", "-c")
NODE_SITE = str(Path(__file__).with_name("node_site.cjs"))
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """`command` and the environment may name {workers} and {port}. `prepare` fetches what it needs and returns what
    its environment has beside, or raises `tools.MissingError`."""

    name: str
    configured: str
    command: tuple[str, ...]
    views: tuple[str, ...] = VIEWS
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], Mapping[str, str]] = lambda: NOTHING

    def command_for(self, *, workers: int, port: int) -> Sequence[str]:
        return [part.format(workers=workers, port=port) for part in self.command]


def contestants() -> list[Contestant]:
    return [*_kit(), *_others_in_python(), *_node()]


def _kit() -> list[Contestant]:
    command = (*KIT_SERVE, "python:scaling_kit.cluster.gunicorn", "bench.serving.applications:wsgi")
    return [
        Contestant(
            name="kit gthread",
            configured="scaling_kit.cluster.serve with scaling_kit.cluster.gunicorn, 4 threads (default)",
            command=command,
        ),
        Contestant(
            name="stock gthread",
            configured="the same with gunicorn's own worker: --worker-class gthread",
            command=(*command[:-1], "--worker-class", "gthread", command[-1]),
        ),
        Contestant(
            name="kit gthread, nearby",
            configured="the first with SCALING_KIT_CACHE_NEARBY_BYTES = 64000000",
            command=command,
            views=("feed",),
            environment={"SERVING_NEARBY_BYTES": "64000000"},
        ),
        Contestant(
            name="kit ASGI",
            configured="the same site under Django's ASGI handler on the websocket worker (uvicorn, uvloop, httptools)",
            command=(*KIT_SERVE, "python:scaling_kit.cluster.gunicorn_websocket", "bench.serving.applications:asgi"),
            prepare=_if_installed("uvicorn_worker", "pip install -e '.[realtime]'"),
        ),
    ]


def _others_in_python() -> list[Contestant]:
    # fmt: off
    return [
        Contestant(
            name="uvicorn",
            configured="uvicorn's own process manager, uvloop, httptools",
            command=(
                *PYTHON, "uvicorn", "bench.serving.applications:asgi", "--workers", "{workers}", "--port", "{port}",
                "--no-access-log", "--log-level", "warning",
            ),
            prepare=_if_installed("uvicorn", "pip install -e '.[realtime]'"),
        ),
        Contestant(
            name="granian WSGI",
            configured="granian --interface wsgi --blocking-threads 4",
            command=(
                *PYTHON, "granian", "--interface", "wsgi", "--workers", "{workers}", "--blocking-threads", "4",
                "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning", "bench.serving.applications:wsgi",
            ),
            prepare=lambda: {"PYTHONPATH": str(tools.python_packages("granian"))},
        ),
    ]
    # fmt: on


def _node() -> list[Contestant]:
    def prepare() -> Mapping[str, str]:
        return {"NODE_PATH": str(tools.node_modules("jsonwebtoken", "redis"))}

    environment = {"WORKERS": "{workers}", "PORT": "{port}"}
    return [
        Contestant(
            name="node cluster",
            configured="node:cluster, plain http, jsonwebtoken with a KeyObject, redis, one connection per worker",
            command=("node", NODE_SITE),
            environment=environment,
            prepare=prepare,
        ),
        Contestant(
            name="node cluster, string secret",
            configured="the same, with the secret given to jsonwebtoken as a string, as its README does",
            command=("node", NODE_SITE),
            views=("jwt",),
            environment={**environment, "JWT_SECRET": "string"},
            prepare=prepare,
        ),
    ]


def _if_installed(module: str, hint: str) -> Callable[[], Mapping[str, str]]:
    def prepare() -> Mapping[str, str]:
        if find_spec(module) is None:
            raise tools.MissingError(f"{module} is not installed: {hint}")
        return NOTHING

    return prepare
