"""`manage.py runscheduler`: run periodic jobs, as one of any number of candidates."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from scaling_kit import members
from scaling_kit.leadership import Candidate, Duty
from scaling_kit.lease import Lease, NotHeldError
from scaling_kit.redis import Purpose, RedisError, UnreachableError, client, ensure_reachable, redacted
from scaling_kit.scheduler import claim, outlook, status, stored, wording
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.rows import UnfitError
from scaling_kit.scheduler.run_now import run_now
from scaling_kit.scheduler.schedule import Schedule, discovered
from scaling_kit.scheduler.stored import UnknownScheduleError
from scaling_kit.scheduler.ticker import Ticker

logger = logging.getLogger(__name__)

# What a leader is about when it is told to stop is ended first: the enqueue() of a task whose backend cannot prepare
# would be lost. Usually that takes milliseconds; only a Redis that hangs makes it take as long as this.
STOP_WITHIN_SECONDS = 5.0
# How many of its last runs --explain shows.
SHOWN_RUNS = 10


class Command(BaseCommand):
    help = "Run periodic jobs. Start as many as you like, on as many machines: one leads, the others stand by."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_mutually_exclusive_group()
        actions.add_argument(
            "--list", dest="show", action="store_true", help="show the schedules, their next and last run, and leave"
        )
        actions.add_argument("--once", action="store_true", help="enqueue what is due now, and leave")
        actions.add_argument("--dry-run", type=_hours, metavar="HOURS", help="print what would run in so many hours")
        actions.add_argument("--explain", metavar="NAME", help="tell in words when a schedule runs, and ran")
        actions.add_argument("--run", metavar="NAME", help="enqueue the job of a schedule at once, and print its id")
        parser.add_argument("--json", action="store_true", help="with --list: print it as JSON")

    def handle(
        self,
        *_: Any,
        show: bool,
        once: bool,
        dry_run: float | None,
        explain: str | None,
        run: str | None,
        json: bool,
        **__: Any,
    ) -> None:
        if json and not show:
            raise CommandError("--json goes with --list")
        try:
            if dry_run is not None:
                self._dry_run(dry_run)
            elif explain is not None:
                self._explain(explain)
            else:
                ensure_reachable(claim.redis_url())
                self._act(show=show, as_json=json, once=once, run=run)
        except (UnreachableError, RedisError, UnknownScheduleError, UnfitError) as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:  # whoever read it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _act(self, *, show: bool, as_json: bool, once: bool, run: str | None) -> None:
        if show:
            self._list(as_json=as_json)
        elif run is not None:
            self.stdout.write(_run_now(run))
        else:
            _refuse_what_cannot_run()
            _tick_once() if once else _run()

    def _list(self, *, as_json: bool) -> None:
        shown = status.snapshot()
        if as_json:
            self.stdout.write(json.dumps(shown, indent=2))
            return
        self.stdout.write(f"leader: {shown['leader'] or 'none'}")
        for entry in shown["schedules"]:
            next_run = _when(entry["next_run_at"]) if entry["enabled"] else "disabled"
            self.stdout.write(f"{entry['name']}  [{entry['timetable']}]  next {next_run}  last {_last_run(entry)}")
        for entry in shown["unfit"]:
            self.stdout.write(f"{entry['name']}  does not run: {entry['reason']}")

    def _dry_run(self, hours: float) -> None:
        now = time.time()
        fit = [one.schedule for one in stored.survey() if one.schedule]
        for coming in outlook.coming_runs(fit, after=now, until=now + hours * 3600):
            at = wording.local(coming.at, outlook.zone(coming.schedule))
            self.stdout.write(f"{wording.utc(coming.at)}  {at}  {coming.schedule.name}")

    def _explain(self, name: str) -> None:
        schedule = stored.find(name)
        self.stdout.write(f"{name}: {wording.when(schedule)}")
        self.stdout.write(f"task: {wording.task(schedule)} args={list(schedule.args)} kwargs={dict(schedule.kwargs)}")
        self.stdout.write(f"options: {wording.options(schedule)}")
        now, zone = time.time(), outlook.zone(schedule)
        self._write("next runs:", [f"{wording.utc(at)}  {wording.local(at, zone)}" for at in _next_runs(schedule, now)])
        self._write("clock changes:", wording.clock_changes(schedule, now))
        self._write("last runs:", _last_runs(schedule))

    def _write(self, title: str, lines: Iterable[str]) -> None:
        self.stdout.write(title)
        for line in lines:
            self.stdout.write(f"  {line}")


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
    """Owned by this process, so that whoever looks at the lease sees who leads."""
    redis = client(Purpose.SCRIPT, settings.REDIS_URL)
    return Lease(name, client=redis, ttl_seconds=settings.LEASE_SECONDS, owner=members.member_id(os.getpid()))


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
            Ticker(stored.current, stored.fetch_revision).run(lease)
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


def _run_now(name: str) -> str:
    try:
        return run_now(name)
    except (RedisError, UnknownScheduleError, UnfitError):
        raise
    except Exception as error:  # arguments that its queue cannot take, whatever its own enqueue raises
        raise CommandError(f"Schedule {name!r} cannot be enqueued: {error}") from error


def _hours(value: str) -> float:
    try:
        hours = float(value)
    except ValueError:
        hours = 0.0
    if not 0 < hours < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of hours above 0")
    return hours


def _next_runs(schedule: Schedule, now: float) -> Iterator[float]:
    delay = schedule.delay_seconds
    return (tick + delay for tick in outlook.next_ticks(schedule, after=now - delay))


def _last_runs(schedule: Schedule) -> list[str]:
    try:
        runs = status.fetch_runs(schedule.name, limit=SHOWN_RUNS)
        statuses = status.fetch_job_statuses(schedule, runs)
    except RedisError as error:
        return [f"unknown, since Redis does not answer: {error}"]
    zone = outlook.zone(schedule)
    return [wording.run(one, state, zone) for one, state in zip(runs, statuses, strict=True)] or ["none"]


def _last_run(entry: dict[str, Any]) -> str:
    if not entry["last_run_at"]:
        return "never"
    return f"{_when(entry['last_run_at'])}  job {entry['last_job_id']} {entry['last_job_status'] or 'not kept'}"


def _when(epoch: float | None) -> str:
    return wording.utc(epoch) if epoch else "never"
