from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import autodiscover_modules

from scaling_kit.redis import UnreachableError, ensure_reachable


class Command(BaseCommand):
    help = (
        "RQ workers for this project's queues: one supervisor and N worker processes. Signals: TTIN and TTOU add and "
        "remove a worker, HUP replaces all with new code, TERM ends gracefully, QUIT at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channels", nargs="*", help=argparse.SUPPRESS)
        parser.add_argument(
            "--processes", type=_processes, default="auto", metavar="N|auto", help="auto: one per core (default)"
        )
        parser.add_argument(
            "--queues", type=_names, default=(), metavar="A,B,C", help="the first one first; default: all of RQ_QUEUES"
        )
        parser.add_argument(
            "--mode",
            choices=["fork", "simple"],
            default="fork",
            help="fork: a process per job, for jobs that leak or crash (default). simple: in the worker, much faster",
        )
        parser.add_argument(
            "--grace", type=_seconds, default=30.0, metavar="SECONDS", help="after TERM, jobs may run on for so long"
        )
        parser.add_argument("--burst", action="store_true", help="end when the queues are empty")

    def handle(
        self,
        *,
        channels: list[str],
        processes: int,
        queues: tuple[str, ...],
        mode: str,
        grace: float,
        burst: bool,
        **_: Any,
    ) -> None:
        if channels:
            raise CommandError(
                f"runworkers takes no names ({' '.join(channels)}): it runs RQ workers, --queues says for which "
                "queues. The worker of Channels is `runworker`."
            )
        try:
            from scaling_kit.jobs import queues as places
            from scaling_kit.jobs.supervisor import PROBE, Fleet, Supervisor
        except ImportError as error:
            raise CommandError(f"{error}. Install scaling-kit[jobs].") from error
        names = queues or tuple(places.names())
        _ensure_one_redis(names)
        autodiscover_modules("tasks")  # loaded once here, shared by every process forked from this one
        if os.environ.get(PROBE):
            return
        _configure_logging()
        fleet = Fleet(processes=processes, queue_names=names, forks=mode == "fork", grace_seconds=grace, burst=burst)
        status = Supervisor(fleet).run()
        if status:
            raise SystemExit(status)


def _ensure_one_redis(names: tuple[str, ...]) -> None:
    """One worker takes from all its queues in one step, so they must be in one Redis, and that must be there."""
    from scaling_kit.jobs import queues

    if not names:
        raise CommandError("There is no queue: RQ_QUEUES is empty. Try recipes.rq_queues(REDIS_URL).")
    try:
        urls = {queues.url(name) for name in names}
        if len(urls) > 1:
            raise CommandError(f"The queues {', '.join(names)} are not in one Redis: run one command for each.")
        ensure_reachable(urls.pop())
        ensure_reachable()
    except (ImproperlyConfigured, UnreachableError) as error:
        raise CommandError(str(error)) from error


def _configure_logging() -> None:
    """If the project has no opinion, log to stderr; RQ's own lines only when something is wrong."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s")
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    logging.getLogger("rq.job").setLevel(logging.WARNING)


def _processes(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of processes nor 'auto'")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
