"""`manage.py jobs`: what the page of the jobs shows and does, for somebody with a terminal only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scaling_kit.redis import RedisError

if TYPE_CHECKING:
    from scaling_kit.jobs.inspection import QueueCounts

COLUMNS = ("waiting", "scheduled", "running", "failed", "finished", "canceled", "oldest_seconds", "paused")


class Command(BaseCommand):
    help = "Look at the queues, pause and resume one; look at a job, retry, cancel or remove it"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="how many jobs are in each queue, by state")
        status.add_argument("--json", action="store_true")
        for name, what in (("pause", "let workers take nothing from it"), ("resume", "let them again")):
            actions.add_parser(name, help=what).add_argument("name", metavar="QUEUE")
        show = actions.add_parser("show", help="all there is to know of a job, as JSON")
        show.add_argument("name", metavar="ID")
        for name in ("retry", "cancel", "remove"):
            actions.add_parser(name, help=f"{name} a job").add_argument("name", metavar="ID")

    def handle(self, *, action: str, name: str = "", json: bool = False, **_: Any) -> None:
        try:
            from scaling_kit.jobs.exceptions import JobsError
        except ImportError as error:
            raise CommandError(f"{error}. Install scaling-kit[jobs].") from error
        try:
            self.stdout.write(status(as_json=json) if action == "status" else _actions()[action](name))
        except (JobsError, RedisError) as error:
            raise CommandError(str(error)) from error


def status(*, as_json: bool) -> str:
    from scaling_kit.jobs import inspection

    counts = inspection.fetch_counts()
    if as_json:
        return json.dumps([asdict(queue) for queue in counts], indent=2)
    rows = [["queue", *COLUMNS], *map(_row, counts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(queue: QueueCounts) -> list[str]:
    values = [getattr(queue, name) for name in COLUMNS]
    return [queue.name, *("-" if value is None or value is False else str(value) for value in values)]


def _actions() -> dict[str, Callable[[str], str]]:
    """What each action does with a queue's name or a job's id, and says of it."""
    from scaling_kit.jobs import control, inspection

    def done(act: Callable[[str], str | None], said: str) -> Callable[[str], str]:
        return lambda name: f"{name} {act(name) or said}"

    return {
        "pause": done(control.pause, "paused"),
        "resume": done(control.resume, "resumed"),
        "retry": done(control.retry, "queued"),
        "cancel": done(control.cancel, "canceled"),
        "remove": done(control.remove, "removed"),
        "show": lambda job_id: json.dumps(asdict(inspection.fetch_job(job_id)), indent=2, default=str),
    }
