from __future__ import annotations

import argparse
import logging
import os
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import autodiscover_modules

from scaling_kit.redis import UnreachableError, ensure_reachable

DEFAULT_CONCURRENCY = 8


class Command(BaseCommand):
    help = (
        "RQ workers for this project's queues: one supervisor and N worker processes. Signals: TTIN and TTOU add and "
        "remove a worker, HUP replaces all with new code, TERM ends gracefully, QUIT at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channels", nargs="*", help=argparse.SUPPRESS)
        size = parser.add_mutually_exclusive_group()
        size.add_argument(
            "--processes", type=_processes, default="auto", metavar="N|auto", help="auto: one per core (default)"
        )
        size.add_argument(
            "--autoscale",
            type=_bounds,
            metavar="MIN:MAX",
            help="as many as are needed for no job to wait long; TTIN and TTOU have no effect then",
        )
        parser.add_argument(
            "--queues",
            type=_ranked,
            default={},
            metavar="A,B,C",
            help="the first one first; A=6,B=3,C=1: each first so many times of ten. Default: all of RQ_QUEUES",
        )
        parser.add_argument(
            "--mode",
            choices=["fork", "simple", "threads"],
            default="fork",
            help=(
                "fork: a process per job, for jobs that leak or crash (default). simple: in the worker, much faster. "
                "threads: several at once in the worker, for jobs that wait"
            ),
        )
        parser.add_argument(
            "--concurrency", type=_count, default=None, metavar="N", help="threads of a worker (default 8)"
        )
        parser.add_argument(
            "--max-jobs", type=_count, default=0, metavar="N", help="replace a worker that has run so many"
        )
        parser.add_argument(
            "--max-memory",
            type=_bytes,
            default=0,
            metavar="SIZE",
            help="replace a worker that has grown beyond this, as 300M or 2G, when a job has ended",
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
        autoscale: tuple[int, int] | None,
        queues: dict[str, float],
        mode: Literal["fork", "simple", "threads"],
        concurrency: int | None,
        max_jobs: int,
        max_memory: int,
        grace: float,
        burst: bool,
        **_: Any,
    ) -> None:
        if channels:
            raise CommandError(
                f"runworkers takes no names ({' '.join(channels)}): it runs RQ workers, --queues says for which "
                "queues. The worker of Channels is `runworker`."
            )
        if autoscale and burst:
            raise CommandError("--burst ends the workers one by one: it goes with --processes, not with --autoscale.")
        try:
            from scaling_kit.jobs import queues as places
            from scaling_kit.jobs.autoscale import Bounds
            from scaling_kit.jobs.order import Order
            from scaling_kit.jobs.reload import PROBE
            from scaling_kit.jobs.supervisor import Fleet, Supervisor
            from scaling_kit.jobs.worker import WorkerOptions
        except ImportError as error:
            raise CommandError(f"{error}. Install scaling-kit[jobs].") from error
        if concurrency is not None and mode != "threads":
            raise CommandError(f"--concurrency is for --mode threads, not for {mode}: use --processes.")
        names = tuple(queues or places.names())
        _ensure_one_redis(names)
        autodiscover_modules("tasks")  # loaded once here, shared by every process forked from this one
        if os.environ.get(PROBE):
            return
        _configure_logging()
        options = WorkerOptions(
            order=Order(queue_names=names, weights=tuple(weight for weight in queues.values() if weight)),
            mode=mode,
            concurrency=concurrency or DEFAULT_CONCURRENCY,
            max_jobs=max_jobs,
            max_memory_bytes=max_memory,
            burst=burst,
        )
        fleet = Fleet(
            processes=autoscale[0] if autoscale else processes,
            worker=options,
            grace_seconds=grace,
            autoscale=Bounds(*autoscale) if autoscale else None,
        )
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


def _bounds(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    if not (least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most)):
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, two numbers of processes such as 1:4")
    return int(least), int(most)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _bytes(text: str) -> int:
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 0)
    number = text[:-1] if unit else text
    if not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 300M or 2G")
    return int(number) * (unit or 1)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _ranked(text: str) -> dict[str, float]:
    """Queue names, each with its weight or 0 for none."""
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    weights = {name.strip(): _weight(name, weight) if equals else 0.0 for name, equals, weight in parts}
    if 0.0 in weights.values() and any(weights.values()):
        raise argparse.ArgumentTypeError(f"{text!r} gives a weight to some queues only: all or none")
    return weights


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise argparse.ArgumentTypeError(f"the weight of {name!r} must be a number above 0, not {text!r}")
    return weight
