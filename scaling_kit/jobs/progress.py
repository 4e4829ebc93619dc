"""How far a job has come, and its log: written by the job, read by everyone.

    from scaling_kit.jobs.progress import log, report_progress

    @task
    def resize_all(album_id: int) -> None:
        for number, photo in enumerate(photos, start=1):
            resize(photo)
            report_progress(number, len(photos), message=photo.title)

For tasks and for plain RQ jobs, in every mode of `runworkers`. One round trip each, and no job fails over it: while
Redis is away they do nothing, after 0.1 s, and say so once.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rq import get_current_job
from rq.job import Job

from scaling_kit.jobs import queues
from scaling_kit.jobs.conf import settings
from scaling_kit.redis import Purpose, RedisError, Script, client

logger = logging.getLogger(__name__)

REPORT = Script.beside(__file__, "report_progress")
LOG = Script.beside(__file__, "log")

LOG_LINES = 1000
MESSAGE_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class Progress:
    done: float
    total: float | None
    message: str
    at: datetime

    @property
    def percent(self) -> float | None:
        """0 to 100, or None if it is not known how much there is to do."""
        return min(100.0, 100.0 * self.done / self.total) if self.total else None


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """`entry` is its place in the log: give the last one to `fetch_log` to have what came after."""

    entry: str
    message: str
    at: datetime


def report_progress(done: float, total: float | None = None, message: str = "") -> None:
    """Say how far the job that runs here has come. Raises `RuntimeError` outside of a job."""
    job = _current_job("report_progress")
    for number in (done, total):
        if number is not None and (not isinstance(number, int | float) or not math.isfinite(number)):
            raise TypeError(f"report_progress: done and total are numbers, not {number!r}")
    progress = {"done": done, "total": total, "message": _capped(message)}
    keys = [queues.record_key(job.id), queues.event_channel(job.id)]
    args = [settings.FAILURE_TTL_SECONDS, _event("progress", job), json.dumps(progress)]
    _telling.attempt(lambda: REPORT(client(Purpose.REQUEST), keys, args))


def log(message: object) -> None:
    """Append a line to the log of the job that runs here; the last 1000 are kept. `RuntimeError` outside of a job."""
    _log(_current_job("log"), message)


def fetch_progress(job_id: str) -> Progress | None:
    """What the job has reported last. Raises `redis.RedisError`."""
    text: Any = client(Purpose.SCRIPT).hget(queues.record_key(job_id), "progress")
    return progress_of(text) if text else None


def fetch_log(job_id: str, after: str = "", *, limit: int = LOG_LINES) -> list[LogLine]:
    """The lines of a job's log, the oldest first; those after the `entry` of another line. Raises `RedisError`."""
    start = f"({after}" if after else "-"
    found: Any = client(Purpose.SCRIPT).xrange(queues.log_key(job_id), min=start, count=limit)
    return [_line(entry, fields) for entry, fields in found]


def progress_of(text: str) -> Progress:
    """From the JSON that the record of a job holds."""
    fields = json.loads(text)
    return Progress(**{**fields, "at": datetime.fromtimestamp(fields["at"], UTC)})


class JobLogHandler(logging.Handler):
    """Writes what is logged during a job, by the thread that runs it, to the job's log.

        LOGGING = {
            "version": 1,
            "handlers": {"job": {"class": "scaling_kit.jobs.progress.JobLogHandler", "level": "INFO"}},
            "loggers": {"shop": {"handlers": ["job"]}},
        }

    A round trip to Redis for each record: choose level and loggers accordingly.
    """

    _busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        job = get_current_job()
        if job is None or getattr(self._busy, "writing", False):
            return  # or it is about the writing itself
        self._busy.writing = True
        try:
            _log(job, self.format(record))
        except Exception:
            self.handleError(record)
        finally:
            self._busy.writing = False


class _Telling:
    """Says once, and not for every line, that Redis is away."""

    reachable = True

    def attempt(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except RedisError as error:
            if self.reachable:
                logger.warning("job progress redis_reachable=False error=%r", error)
            self.reachable = False
        else:
            self.reachable = True


_telling = _Telling()


def _current_job(name: str) -> Job:
    job = get_current_job()
    if job is None:
        raise RuntimeError(f"{name}() is for the thread that runs a job; no job runs here")
    return job


def _log(job: Job, message: object) -> None:
    keys = [queues.log_key(job.id), queues.event_channel(job.id)]
    args = [settings.FAILURE_TTL_SECONDS, LOG_LINES, _event("log", job), _capped(message)]
    _telling.attempt(lambda: LOG(client(Purpose.REQUEST), keys, args))


def _event(name: str, job: Job) -> str:
    return json.dumps({"event": name, "id": job.id, "queue": job.origin})


def _capped(message: object) -> str:
    """Not longer than can be shown, and without halves of characters, which are no UTF-8."""
    return str(message)[:MESSAGE_CHARACTERS].encode(errors="replace").decode()


def _line(entry: str, fields: dict[str, str]) -> LogLine:
    milliseconds = int(entry.partition("-")[0])
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return LogLine(entry=entry, message=fields.get("message", ""), at=at)
