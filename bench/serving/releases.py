"""The application of bench/web_faults.py, for Python and for Node.js: answers `/pid?SECONDS` with its process id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

HOARDED_BYTES = 500_000

PYTHON = Template("""
import os, time
from pathlib import Path
$broken
time.sleep($boot_seconds)
from django.core.wsgi import get_wsgi_application

django = get_wsgi_application()
hoard = []

def application(environ, start_response):
    if not environ["PATH_INFO"].startswith("/pid"):
        return django(environ, start_response)
    time.sleep(float(environ["QUERY_STRING"]))
    if Path("$hoard_if").exists():
        hoard.append(b"x" * $hoarded_bytes)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
""")

NODE = Template("""
const fs = require("node:fs"), http = require("node:http");
$broken
const hoard = [];
let draining = false;

const server = http.createServer((request, response) => {
  request.resume();
  setTimeout(() => {
    if (fs.existsSync("$hoard_if")) hoard.push(Buffer.alloc($hoarded_bytes, "x"));
    if (draining) response.setHeader("Connection", "close");
    response.end(String(process.pid));
  }, 1000 * Number(request.url.split("?")[1]));
});

setTimeout(() => server.listen(Number(process.env.PORT), "127.0.0.1", () => {
  if (process.send) process.send("ready");
}), 1000 * $boot_seconds);
$drain
""")

# As careful as one can be: no new connections, idle ones closed, the others told to close after their answer.
NODE_DRAIN = """
process.on("SIGINT", () => {
  draining = true;
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
"""


@dataclass(frozen=True, kw_only=True)
class Release:
    boot_seconds: float = 0.0
    is_broken: bool = False


def in_python(release: Release, hoard_if: Path) -> str:
    return PYTHON.substitute(_common(release, hoard_if), broken="import nothing_of_that_name" * release.is_broken)


def in_node(release: Release, hoard_if: Path, *, drains: bool) -> str:
    broken = 'require("nothing-of-that-name");' * release.is_broken
    return NODE.substitute(_common(release, hoard_if), broken=broken, drain=NODE_DRAIN * drains)


def _common(release: Release, hoard_if: Path) -> dict[str, object]:
    return {"boot_seconds": release.boot_seconds, "hoard_if": hoard_if, "hoarded_bytes": HOARDED_BYTES}
