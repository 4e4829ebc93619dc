"""What the demo needs beside itself: Redis, a database and S3, given by the environment or started here."""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from scaling_kit import embedded
from scaling_kit.cluster.output import Output
from scaling_kit.cluster.runner import Process
from scaling_kit.redis import UnreachableError, ensure_reachable, redacted

BUCKET = "photos"
S3_VARIABLES = ("S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY")


class ServiceError(Exception):
    """A service that was given cannot be used, or one that was not given cannot be started."""


@dataclass(frozen=True, kw_only=True)
class Services:
    processes: list[Process] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """For demo_project.settings, beside what is given: REDIS_URL, DATABASE_URL, S3_*, SECRET_KEY."""


def arrange(given: Mapping[str, str], folder: Path, output: Output) -> Services:
    """Check the services that are given, then prepare the others. Raises `ServiceError`."""
    for name, check in (("REDIS_URL", check_redis), ("DATABASE_URL", check_database), ("S3_ENDPOINT_URL", check_s3)):
        if given.get(name):
            check(given[name], given)
    kept = kept_secrets(folder)
    services = Services(environment={"SECRET_KEY": given.get("SECRET_KEY") or kept["SECRET_KEY"]})
    for name, server in (("REDIS_URL", valkey), ("DATABASE_URL", postgres), ("S3_ENDPOINT_URL", s3)):
        if not given.get(name):
            process, environment = server(folder, kept, output)
            services.processes.append(process)
            services.environment.update(environment)
    return services


def kept_secrets(folder: Path) -> dict[str, str]:
    """Made on the first run, readable by the owner alone."""
    file = folder / "secrets.json"
    if file.exists():
        known: dict[str, str] = json.loads(file.read_text())
        return known
    names = ("SECRET_KEY", "S3_ACCESS_KEY", "S3_SECRET_KEY", "DATABASE_PASSWORD", "ID")
    made = {name: secrets.token_hex(32 if name == "SECRET_KEY" else 16) for name in names}
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(json.dumps(made))
    return made


def check_redis(url: str, _given: Mapping[str, str]) -> None:
    try:
        ensure_reachable(url)
    except UnreachableError as error:
        raise ServiceError(f"REDIS_URL: {error}") from error


def check_database(url: str, _given: Mapping[str, str]) -> None:
    if not url.startswith(("postgres://", "postgresql://")):
        return  # a file, or a server that `migrate` will tell about
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error as error:
        first_line = str(error).splitlines()[0]
        raise ServiceError(f"DATABASE_URL: PostgreSQL at {redacted(url)} cannot be used: {first_line}") from error


def check_s3(endpoint: str, given: Mapping[str, str]) -> None:
    missing = [name for name in S3_VARIABLES if not given.get(name)]
    if missing:
        raise ServiceError(f"S3_ENDPOINT_URL is set, so {', '.join(missing)} must be too.")
    parts = urlsplit(endpoint)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.netloc, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, HTTPException) as error:
        raise ServiceError(f"S3_ENDPOINT_URL: S3 at {endpoint} cannot be used: {error}") from error
    finally:
        connection.close()


def valkey(folder: Path, _kept: Mapping[str, str], output: Output) -> tuple[Process, dict[str, str]]:
    server = embedded.Valkey(folder=folder / "valkey", port=embedded.free_port())
    return _process(server, output), {"REDIS_URL": server.url}


def postgres(folder: Path, kept: Mapping[str, str], output: Output) -> tuple[Process, dict[str, str]]:
    server = embedded.Postgres(
        folder=_postgres_folder(folder, kept["ID"]),
        port=embedded.free_port(),
        database="photo_wall",
        password=kept["DATABASE_PASSWORD"],
    )
    # SIGINT is PostgreSQL's fast shutdown; SIGTERM waits for clients to leave.
    return _process(server, output, stop_signal=signal.SIGINT), {"DATABASE_URL": server.url}


def s3(folder: Path, kept: Mapping[str, str], output: Output) -> tuple[Process, dict[str, str]]:
    server = embedded.S3(
        folder=folder / "s3",
        port=embedded.free_port(),
        access_key=kept["S3_ACCESS_KEY"],
        secret_key=kept["S3_SECRET_KEY"],
        buckets=(BUCKET,),
    )
    return _process(server, output), {
        "S3_ENDPOINT_URL": server.endpoint,
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY": server.access_key,
        "S3_SECRET_KEY": server.secret_key,
    }


def _postgres_folder(folder: Path, run_id: str) -> Path:
    """Where its user can reach it: as root it runs as another user, who may be shut out of our folder."""
    own = folder / "postgres"
    is_open = all(parent.stat().st_mode & stat.S_IXOTH for parent in [folder, *folder.parents])
    if os.geteuid() != 0 or is_open:
        return own
    outside = Path("/var/tmp") / f"scaling_kit-postgres-{run_id[:12]}"  # noqa: S108  (kept over reboots; a random name)
    if not own.is_symlink():
        own.symlink_to(outside)  # for `make clean`, and for people who look for it here
    return outside


def _process(server: embedded.Server, output: Output, *, stop_signal: signal.Signals = signal.SIGTERM) -> Process:
    try:
        if not _was_prepared(server):
            output.event("preparing %s, on the first run only", server.name)
        server.prepare()
        command = server.command()
    except (ImportError, OSError, RuntimeError) as error:
        raise ServiceError(f"{server.name} cannot be started: {error}. It comes with scaling_kit[embedded].") from error
    return Process(
        name=server.name,
        command=command,
        environment=server.environment(),
        user=server.user,
        is_ready=server.is_ready,
        stop_signal=stop_signal,
        quiet=True,
    )


def _was_prepared(server: embedded.Server) -> bool:
    return getattr(server, "folder", Path()).exists()
