"""`manage.py runscheduler`: run periodic jobs, as one of any number of candidates."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from scaling_kit import members
from scaling_kit.leadership import Candidate, Duty
from scaling_kit.lease import Lease, NotHeldError
from scaling_kit.redis import Purpose, RedisError, UnreachableError, client, ensure_reachable, redacted
from scaling_kit.scheduler import claim, status
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import discovered
from scaling_kit.scheduler.ticker import Ticker

logger = logging.getLogger(__name__)

# What a leader is about when it is told to stop is ended first: the enqueue() of a task whose backend cannot prepare
# would be lost. Usually that takes milliseconds; only a Redis that hangs makes it take as long as this.
STOP_WITHIN_SECONDS = 5.0


class Command(BaseCommand):
    help = "Run periodic jobs. Start as many as you like, on as many machines: one leads, the others stand by."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_mutually_exclusive_group()
        actions.add_argument(
            "--list", dest="show", action="store_true", help="show the schedules, their next and last run, and leave"
        )
        actions.add_argument("--once", action="store_true", help="enqueue what is due now, and leave")

    def handle(self, *_: Any, show: bool, once: bool, **__: Any) -> None:
        try:
            ensure_reachable(claim.redis_url())
            if show:
                self._list()
            else:
                _refuse_what_cannot_run()
                _tick_once() if once else _run()
        except (UnreachableError, RedisError) as error:
            raise CommandError(str(error)) from error

    def _list(self) -> None:
        shown = status.snapshot()
        self.stdout.write(f"leader: {shown['leader'] or 'none'}")
        for entry in shown["schedules"]:
            next_run = _when(entry["next_run_at"]) if entry["enabled"] else "disabled"
            last_run = _when(entry["last_run_at"])
            self.stdout.write(f"{entry['name']}  [{entry['timetable']}]  next {next_run}  last {last_run}")


def _run() -> None:
    ended: SimpleQueue[str] = SimpleQueue()  # its put() may be called by a signal handler, unlike Event.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.put(""))
    member = members.join("scheduler", state="standby", epoch=0)
    stop = threading.Event()
    threads = [_start(candidate, stop, ended) for candidate in _candidates(member)]
    logger.info("scheduler started schedules=%s redis=%s", len(discovered()), redacted(claim.redis_url()))
    crashed = ended.get()
    stop.set()
    stop_by = time.monotonic() + STOP_WITHIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, stop_by - time.monotonic()))
    member.leave()
    logger.info("scheduler stopped")
    if crashed:
        raise CommandError(crashed)


def _candidates(member: members.Member) -> list[Candidate]:
    """One for each app that has duties; ours is one of them."""
    return [
        _candidate(config.label, import_string(config.leader_duties), member)
        for config in apps.get_app_configs()
        if hasattr(config, "leader_duties")
    ]


def _candidate(label: str, duties: Sequence[Duty], member: members.Member) -> Candidate:
    lease = _lease(label)

    def show(leads: bool) -> None:
        member.update(state="leader" if leads else "standby", epoch=lease.epoch)

    return Candidate(lease, duties, on_change=show) if label == status.LEASE else Candidate(lease, duties)


def _lease(name: str) -> Lease:
    """The token names the process, so that whoever looks at the lease sees who leads."""
    token = f"{members.member_id(os.getpid())}:{secrets.token_hex(8)}"
    redis = client(Purpose.SCRIPT, settings.REDIS_URL)
    return Lease(name, client=redis, ttl_seconds=settings.LEASE_SECONDS, token=token)


def _start(candidate: Candidate, stop: threading.Event, ended: SimpleQueue[str]) -> threading.Thread:
    def contend() -> None:
        try:
            candidate.run(stop)
        except BaseException:
            logger.exception("scheduler crashed lease=%s", candidate.lease.name)
            ended.put(f"The candidate for {candidate.lease.name} crashed; see the log")

    thread = threading.Thread(target=contend, name=candidate.lease.name, daemon=True)
    thread.start()
    return thread


def _tick_once() -> None:
    try:
        with _lease(status.LEASE).held() as lease:
            Ticker().run(lease)
    except NotHeldError as error:
        raise CommandError("Another scheduler leads; it enqueues what is due.") from error


def _refuse_what_cannot_run() -> None:
    """Arguments that a queue cannot take, and a queue in another Redis, are refused at the start, not at a tick."""
    for schedule in discovered():
        try:
            claim.prepared(schedule, schedule.job_id(0))
        except RedisError:
            raise
        except Exception as error:
            raise CommandError(f"Schedule {schedule.name!r} cannot be enqueued: {error}") from error


def _when(epoch: float | None) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if epoch else "never"
