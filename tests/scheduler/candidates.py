"""Real `runscheduler` processes, for the tests of faults and for bench/scheduler_faults.py.

Who leads is asked in the Redis of the settings in force; each candidate may reach that Redis by a way of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import override_settings

from scaling_kit import members
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, RedisError, client
from scaling_kit.scheduler.status import LEASE
from scaling_kit.testing import die_with_parent, running, wait_until
from tests.jobs.proxy import Proxy
from tests.scheduler.queue import wait_for_ticks

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    process: subprocess.Popen[bytes]
    proxy: Proxy | None = None
    """The way to Redis of this candidate alone."""

    @property
    def name(self) -> str:
        return members.member_id(self.process.pid)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass(kw_only=True)
class Candidates:
    """Some processes that contend for one lease. Log to `log`, if given, else to our stderr."""

    lease_seconds: float
    settings_module: str = "tests.scheduler.project"
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    all: list[Candidate] = field(default_factory=list)

    def start(self, *, proxy: Proxy | None = None) -> Candidate:
        environment = {
            **os.environ,
            "TICKING_KEY_PREFIX": settings.SCALING_KIT_KEY_PREFIX,
            "TICKING_LEASE_SECONDS": str(self.lease_seconds),
            "TICKING_REDIS_URL": proxy.url if proxy else settings.SCALING_KIT_REDIS_URL,
            **self.environment,
        }
        command = [sys.executable, "-m", "django", "runscheduler", "--settings", self.settings_module]
        with self._output() as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stderr=output, start_new_session=True, preexec_fn=die_with_parent
            )
        started = Candidate(process=process, proxy=proxy)
        self.all.append(started)
        return started

    @contextmanager
    def _output(self) -> Iterator[int | None]:
        if self.log is None:
            yield None
        else:
            with self.log.open("a") as log:
                yield log.fileno()

    @property
    def alive(self) -> Sequence[Candidate]:
        return [one for one in self.all if one.is_alive]

    def leader(self) -> Candidate | None:
        """Who leads, if it is one of these. Raises `redis.RedisError`."""
        holder = Lease(LEASE, client=client(Purpose.SCRIPT)).fetch_holder()
        name = holder.token.rpartition(":")[0] if holder else ""
        return next((one for one in self.all if one.name == name), None)

    def wait_for_leader(self, *, other_than: Candidate | None = None, timeout_seconds: float = 20) -> Candidate:
        def found() -> Candidate | None:
            try:
                one = self.leader()
            except RedisError:
                return None
            return one if one is not other_than else None

        leader = wait_until(found, timeout_seconds=timeout_seconds, what="one of the candidates leads")
        assert leader is not None
        return leader

    def wait_until_joined(self, *, timeout_seconds: float = 30) -> None:
        """All are listed, and one leads."""
        names = {one.name for one in self.all}
        wait_until(
            lambda: names <= {member["id"] for member in members.fetch_members()},
            timeout_seconds=timeout_seconds,
            what=f"{names} are there",
        )
        self.wait_for_leader()

    def end(self) -> None:
        for one in self.all:
            one.kill()


@contextmanager
def started(
    count: int, *, lease_seconds: float, each_by: Callable[[], Proxy] | None = None, **options: Any
) -> Iterator[Candidates]:
    """So many, up, one of them leading and ticking. `each_by` makes a proxy for each."""
    group = Candidates(lease_seconds=lease_seconds, **options)
    try:
        for _ in range(count):
            group.start(proxy=each_by() if each_by else None)
        group.wait_until_joined()
        wait_for_ticks(1)
        yield group
    finally:
        group.end()


@contextmanager
def redis_of_its_own(folder: Path, *, persistent: bool = True) -> Iterator[tuple[Valkey, subprocess.Popen[bytes]]]:
    server = Valkey(folder=folder, port=free_port(), persistent=persistent)
    with override_settings(SCALING_KIT_REDIS_URL=server.url), running(server) as process:
        yield server, process
