"""What is done to a host under load. Each scenario acts, and returns when its consequences are over."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from bench.serving.hosts import WORKERS, Done, Host, Limits
from bench.serving.releases import Release
from scaling_kit.testing import wait_until
from tests.acceptance.load import OpenLoad, Request, open_load

PER_SECOND = 100
SLOW_PER_SECOND = 2
PATIENCE_SECONDS = 60.0
RECENT_SECONDS = 1.0
SETTLE_SECONDS = 12.0  # of who is told by a signal: granian stops its second worker after 7


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`lost` of all `requests`, `lost_kept_alive` those of them on kept connections. `longest_ms` is what a client
    waited, for its answer or in vain; of the requests of 3 s, nothing is in it."""

    requests: int
    lost: int
    lost_kept_alive: int
    longest_ms: float
    median_ms: float
    seconds: float | None = None
    """That the command took."""
    status: int | None = None
    said: str = ""
    workers_left: int | None = None
    back_ms: float | None = None
    """From the fault to the first answer of a process that was not there before."""


@dataclass(kw_only=True)
class Trial:
    """A host under load."""

    host: Host
    load: OpenLoad
    boot_seconds: float
    done: Done | None = None
    workers_left: int | None = None
    back_ms: float | None = None
    slow: list[Request] = field(default_factory=list)

    def pids(self) -> set[int]:
        """Of those that have answered of late."""
        since = time.monotonic() - RECENT_SECONDS
        return {int(each.body) for each in self.load.requests if not each.is_lost and each.answered_at > since}

    def wait_until_all_are_new(self, old: set[int]) -> bool:
        return self.wait(lambda: len(self.pids() - old) >= WORKERS and not self.pids() & old)

    def wait(self, condition: Callable[[], object]) -> bool:
        """Whether it became true in time: that it did not is a finding, not an error."""
        with suppress(TimeoutError):
            wait_until(condition, timeout_seconds=PATIENCE_SECONDS)
            return True
        return False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    name: str
    about: str
    act: Callable[[Trial], None]
    limits: Limits = field(default_factory=Limits)


def perform(scenario: Scenario, host: Host, *, seconds: float, boot_seconds: float) -> Outcome:
    """`seconds` of load before and after. Raises `TimeoutError` if the host does not even start."""
    with ExitStack() as stack:
        stack.callback(host.end)
        host.start()
        with open_load(host.port, "/pid?0.05", per_second=PER_SECOND) as load:
            trial = Trial(host=host, load=load, boot_seconds=boot_seconds)
            time.sleep(seconds)
            scenario.act(trial)
            time.sleep(seconds)
    return _outcome(trial)


def reload(trial: Trial) -> None:
    old = trial.pids()
    trial.done = trial.host.reload()
    trial.wait_until_all_are_new(old)


def reload_with_slow_requests(trial: Trial) -> None:
    with open_load(trial.host.port, "/pid?3", per_second=SLOW_PER_SECOND) as slow:
        time.sleep(3)  # so long takes each: as many are under way as ever will be
        reload(trial)
    trial.slow = slow.requests


def reload_slow_to_boot(trial: Trial) -> None:
    trial.host.write(Release(boot_seconds=trial.boot_seconds))
    reload(trial)


def reload_broken(trial: Trial) -> None:
    trial.host.write(Release(is_broken=True))
    trial.done = trial.host.reload()
    time.sleep(SETTLE_SECONDS if trial.done.status is None else 2 * RECENT_SECONDS)
    trial.workers_left = len(trial.pids())


def scale(trial: Trial) -> None:
    up = trial.host.scale(4)
    trial.wait(lambda: len(trial.pids()) >= 4)
    down = trial.host.scale(2)
    trial.wait(lambda: len(trial.pids()) <= 2)
    trial.done = up.then(down)


def stop_and_start(trial: Trial) -> None:
    old = trial.pids()
    trial.done = trial.host.stop_and_start()
    trial.wait_until_all_are_new(old)


def kill_one(trial: Trial) -> None:
    _kill(trial, sorted(trial.pids())[:1])


def kill_all(trial: Trial) -> None:
    _kill(trial, sorted(trial.pids()))


def outlive_requests(trial: Trial) -> None:
    old = trial.pids()
    trial.wait(lambda: len(trial.load.pids - old) >= 2 * WORKERS)


def hoard(trial: Trial) -> None:
    old = trial.pids()
    trial.host.hoard_if.touch()
    trial.wait(lambda: len(trial.load.pids - old) >= WORKERS)
    trial.host.hoard_if.unlink()
    time.sleep(3)  # for a replacement that is under way


SCENARIOS = (
    Scenario(name="reload", about="a release of the same speed", act=reload),
    Scenario(
        name="reload, 3 s requests", about="and two requests of 3 s begin each second", act=reload_with_slow_requests
    ),
    Scenario(
        name="reload, slow boot",
        about="the release takes 12 s (`--boot-seconds`) until it serves",
        act=reload_slow_to_boot,
    ),
    Scenario(name="reload, broken", about="the release cannot be imported", act=reload_broken),
    Scenario(name="scale 2 → 4 → 2", about="as soon as all four have answered", act=scale),
    Scenario(name="stop, start", about="one after the other", act=stop_and_start),
    Scenario(name="kill -9 of one", about="of two", act=kill_one),
    Scenario(name="kill -9 of all", about="both at once", act=kill_all),
    Scenario(name="max requests", about="150 by each process", act=outlive_requests, limits=Limits(requests=True)),
    Scenario(
        name="memory limit", about="150 MB, which each reaches in some seconds", act=hoard, limits=Limits(memory=True)
    ),
)


def _kill(trial: Trial, victims: Sequence[int]) -> None:
    known = trial.load.pids
    killed_at = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    trial.wait(lambda: trial.load.pids - known)
    new = [each for each in trial.load.requests if not each.is_lost and int(each.body) not in known]
    if new:
        trial.back_ms = 1000 * (min(each.answered_at for each in new) - killed_at)


def _outcome(trial: Trial) -> Outcome:
    took = [1000 * (each.answered_at - each.sent_at) for each in trial.load.requests]
    every = [*trial.load.requests, *trial.slow]
    lost = [each for each in every if each.is_lost]
    return Outcome(
        requests=len(every),
        lost=len(lost),
        lost_kept_alive=sum(each.keeps_alive for each in lost),
        longest_ms=max(took),
        median_ms=statistics.median(took),
        seconds=trial.done.seconds if trial.done and trial.done.status is not None else None,
        status=trial.done.status if trial.done else None,
        said=trial.done.said if trial.done else "",
        workers_left=trial.workers_left,
        back_ms=trial.back_ms,
    )
