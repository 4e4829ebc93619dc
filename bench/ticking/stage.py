"""A server of its own, candidates on it, and the book: what every scenario begins with and ends with."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from django.test import override_settings

from bench.ticking.book import Book, Verdict
from scaling_kit.embedded import Valkey, free_port
from scaling_kit.testing import running, start, wait_until
from tests.jobs.proxy import Proxy
from tests.scheduler.candidates import Candidate, Candidates

SETTINGS = "bench.ticking.settings"
# Between a fault and the next, and after the last: all is well again for so many ticks.
QUIET_TICKS = 3
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a scenario came to. `recovered` are seconds, one for each fault, None where nobody led again."""

    verdicts: Sequence[Verdict]
    recovered: Sequence[float | None]
    alive: int
    should_be_alive: int
    remarks: Sequence[str] = ()


@dataclass(kw_only=True)
class Stage:
    server: Valkey
    process: Popen[bytes]
    group: Candidates
    book: Book
    stack: ExitStack
    first: int = 0
    killed: int = 0
    recovered: list[float | None] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def begin(self) -> None:
        """From here on it counts."""
        self.wait_for_quiet()
        self.first = self.book.last_tick()

    def wait_for_quiet(self) -> None:
        """So many ticks of now have been enqueued: whatever was missed has been made up for before."""
        until = math.ceil(time.time()) + QUIET_TICKS
        wait_until(lambda: self.book.last_tick() >= until, timeout_seconds=PATIENCE_SECONDS, what="ticks go on")

    def wait_for_any_moment(self) -> None:
        """Faults do not wait for a tick, as the bench does."""
        time.sleep(self.dice.random())

    def wait_for_mid_second(self) -> None:
        """No tick is under way, so that it is plain which of them the fault concerns."""
        time.sleep((0.5 - time.time()) % 1)

    def leader(self) -> Candidate:
        return self.group.wait_for_leader()

    @contextmanager
    def fault(self, *, recovery_from_end: bool = False) -> Iterator[None]:
        """The body hurts. Recovery counts from its begin, or from its end, to a later epoch of the lease."""
        epoch, began_at = self.book.epoch, time.time()
        yield
        counted_from = time.time() if recovery_from_end else began_at
        self._wait_for_reign(epoch, began_at)
        led_again = self.book.led_again(after=began_at, epoch=epoch)
        self.recovered.append(None if led_again is None else max(0.0, began_at + led_again - counted_from))

    def _wait_for_reign(self, epoch: int, began_at: float) -> None:
        try:
            wait_until(
                lambda: self.book.led_again(after=began_at, epoch=epoch) is not None,
                timeout_seconds=PATIENCE_SECONDS,
            )
        except TimeoutError:
            self.remarks.append("nobody led again")

    def kill(self, one: Candidate) -> None:
        one.kill()
        self.killed += 1

    def stop_server(self) -> None:
        self.process.kill()
        self.process.wait()

    def start_server(self) -> None:
        """Again, with what it has kept; returns when it answers."""
        self.process = start(self.server)
        self.stack.callback(_end, self.process)
        wait_until(self.server.is_ready, what="the server answers again")

    def result(self, *, lost_with_the_data: Sequence[int] = ()) -> Result:
        self.wait_for_quiet()
        verdict = self.book.judge(self.first, self.book.last_tick() - 1, lost_with_the_data=lost_with_the_data)
        return Result(
            verdicts=[verdict],
            recovered=self.recovered,
            alive=len(self.group.alive),
            should_be_alive=len(self.group.all) - self.killed,
            remarks=self.remarks,
        )


def _end(process: Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextmanager
def server(folder: Path, *, persistent: bool = True) -> Iterator[tuple[Valkey, Popen[bytes]]]:
    """A server whose URL is in the settings."""
    valkey = Valkey(folder=folder / "valkey", port=free_port(), persistent=persistent)
    with running(valkey) as process, override_settings(SCALING_KIT_REDIS_URL=valkey.url):
        yield valkey, process


@contextmanager
def staged(
    folder: Path,
    count: int,
    *,
    lease_seconds: float = 2.0,
    persistent: bool = True,
    proxied: bool = False,
    **environment: str,
) -> Iterator[Stage]:
    """So many candidates on a server, ticking since a moment."""
    with ExitStack() as stack:
        valkey, process = stack.enter_context(server(folder, persistent=persistent))
        book = stack.enter_context(Book(valkey.url, "default"))
        group = Candidates(
            lease_seconds=lease_seconds, settings_module=SETTINGS, environment=environment, log=folder / "log"
        )
        stack.callback(group.end)
        each_by: Callable[[], Proxy | None] = lambda: None  # noqa: E731
        if proxied:
            each_by = lambda: stack.enter_context(Proxy(valkey.url))  # noqa: E731
        for _ in range(count):
            group.start(proxy=each_by())
        group.wait_until_joined()
        stage = Stage(server=valkey, process=process, group=group, book=book, stack=stack)
        stage.begin()
        yield stage
