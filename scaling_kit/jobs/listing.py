"""Pages of jobs, by state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rq.defaults import RQ_KEY_PREFIX

from scaling_kit.jobs import fields as reading
from scaling_kit.jobs import payloads, queues
from scaling_kit.jobs.counts import by_url, ensure_queue, fetch_lists, registry_key
from scaling_kit.jobs.fields import MAX_LINE
from scaling_kit.jobs.job import TASK_FIELD

STATES = ("waiting", "scheduled", "running", "failed", "finished", "canceled", "deferred")
FINAL_STATES = ("failed", "finished", "canceled")
ACTIONS = {
    "waiting": ("cancel", "priority", "remove"),
    "scheduled": ("run-now", "cancel", "priority", "remove"),
    "running": ("cancel",),
    "failed": ("retry", "remove"),
    "finished": ("remove",),
    "canceled": ("retry", "remove"),
    "deferred": ("cancel", "remove"),
}
_STATE_OF = {"queued": "waiting", "started": "running", "stopped": "failed"} | {state: state for state in STATES}
_STATE_OF |= dict.fromkeys(("ready_to_enqueue", "rate_limited", "created"), "deferred")

PER_PAGE = 25
MAX_PER_PAGE = 200
# A filter looks at so many jobs at most, in steps.
SEARCHED = 10_000
SEARCH_STEP = 1_000


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    """A line in a list of jobs. `status` is RQ's word, `state` one of `STATES`, `note` what is wrong with the job."""

    id: str
    queue: str
    state: str
    status: str
    task: str
    is_task: bool
    priority: int
    attempts: int
    retries_left: int
    created_at: datetime | None
    enqueued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    run_at: datetime | None = None
    worker: str
    progress: Mapping[str, Any] | None = None
    error: str = ""
    note: str = ""
    actions: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """`total` counts all there are, or, with a filter, those found among the first `searched` (None: no filter)."""

    jobs: Sequence[JobSummary]
    total: int
    page: int
    pages: int
    searched: int | None = None
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """A list, or a sorted set, that is one part of what is listed."""

    key: str
    queue: str
    is_list: bool
    length: int


@dataclass(frozen=True, kw_only=True)
class Listed:
    id: str
    queue: str
    score: float = 0.0


def fetch_jobs(
    state: str,
    *,
    queue_name: str = "",
    task: str = "",
    page: int = 1,
    per_page: int = PER_PAGE,
    newest_first: bool | None = None,
) -> Page:
    """One page of the jobs of a state, of one queue or, one queue after the other, of all.

    Waiting jobs come in the order in which they will be taken, scheduled ones in that in which they are due, others
    the newest first; `newest_first` says otherwise. `task` keeps those whose dotted path contains it, among the first
    SEARCHED. Raises `NoSuchQueueError`, `ValueError` for an unknown state, `redis.RedisError`.
    """
    if state not in STATES:
        raise ValueError(f"There is no state {state!r}; there are: {', '.join(STATES)}")
    names = [queue_name] if queue_name else queues.names()
    for name in names:
        ensure_queue(name)
    per_page = min(per_page, MAX_PER_PAGE)
    newest_first = state not in ("waiting", "scheduled") if newest_first is None else newest_first
    listing = _Listing(state, by_url(names), newest_first=newest_first)
    found = listing.search(task.lower()) if task else None
    total = listing.total if found is None else len(found)
    start = (page - 1) * per_page
    rows = listing.window(start, per_page) if found is None else found[start : start + per_page]
    return Page(
        jobs=_summaries(state, rows),
        total=total,
        page=page,
        pages=max(1, -(-total // per_page)),
        searched=None if found is None else min(listing.total, SEARCHED),
        complete=found is None or listing.total <= SEARCHED,
    )


class _Listing:
    """Ids in order, by position, over several lists or sorted sets."""

    def __init__(self, state: str, names: Sequence[Sequence[str]], *, newest_first: bool) -> None:
        self.reverse = newest_first
        segments = [segment for url_names in names for segment in _segments(state, url_names)]
        self.segments = segments[::-1] if newest_first and state == "waiting" else segments
        self.total = sum(segment.length for segment in segments)

    def window(self, start: int, count: int) -> list[Listed]:
        parts = list(self._parts(start, count))

        def ask(pipeline: Any, number: int) -> None:
            segment, first, last = parts[number]
            if segment.is_list:
                pipeline.lrange(segment.key, *((-last - 1, -first - 1) if self.reverse else (first, last)))
            else:
                pipeline.zrange(segment.key, first, last, desc=self.reverse, withscores=True)

        answers = _ask_each([segment.queue for segment, *_ in parts], ask)
        return [row for (segment, *_), found in zip(parts, answers, strict=True) for row in self._rows(segment, found)]

    def search(self, task: str) -> list[Listed]:
        """Those among the first SEARCHED whose task or function has this in its name."""
        found = []
        for start in range(0, min(self.total, SEARCHED), SEARCH_STEP):
            rows = self.window(start, min(SEARCH_STEP, SEARCHED - start))
            named = zip(rows, _fetch_names(rows), strict=True)
            found += [row for row, name in named if task in name.lower()]
        return found

    def _parts(self, start: int, count: int) -> Iterator[tuple[_Segment, int, int]]:
        for segment in self.segments:
            if count <= 0:
                return
            taken = min(segment.length - start, count)
            if taken > 0:
                yield segment, start, start + taken - 1
                count -= taken
            start = max(0, start - segment.length)

    def _rows(self, segment: _Segment, found: Sequence[Any]) -> Iterator[Listed]:
        if segment.is_list:
            for job_id in found[::-1] if self.reverse else found:
                yield Listed(id=payloads.text(job_id), queue=segment.queue)
            return
        for member, score in found:
            yield Listed(id=payloads.text(member).partition(":")[0], queue=segment.queue, score=score)


def _segments(state: str, names: Sequence[str]) -> Iterator[_Segment]:
    connection = queues.connection(names[0])
    lists = fetch_lists(connection, names) if state == "waiting" else {}
    keys = [(name, key) for name in names for key in (lists.get(name) or [registry_key(state, name)])]
    pipeline = connection.pipeline(transaction=False)
    for _, segment_key in keys:
        if lists:
            pipeline.llen(segment_key)
        else:
            pipeline.zcard(segment_key)
    for (name, segment_key), length in zip(keys, pipeline.execute(), strict=True):
        yield _Segment(key=segment_key, queue=name, is_list=bool(lists), length=length)


def _fetch_names(rows: Sequence[Listed]) -> list[str]:
    answers = _ask_hashes(rows, (TASK_FIELD, "description"))
    return [
        reading.task_name(reading.task(answer[0]), answer[1]) if isinstance(answer, list) else "" for answer in answers
    ]


def _ask_hashes(rows: Sequence[Listed], fields: Sequence[str]) -> list[Any]:
    """The fields of each job, or the error of Redis for what is no hash."""

    def ask(pipeline: Any, number: int) -> None:
        pipeline.hmget(queues.job_key(rows[number].id), fields)

    return _ask_each([row.queue for row in rows], ask, raise_on_error=False)


def _ask_each(queue_names: Sequence[str], ask: Callable[[Any, int], None], *, raise_on_error: bool = True) -> list[Any]:
    """The answer to one question for each of the queue names: one round trip for each Redis there is."""
    answers: dict[int, Any] = {}
    for names in by_url(dict.fromkeys(queue_names)):
        pipeline = queues.connection(names[0]).pipeline(transaction=False)
        here = [number for number, name in enumerate(queue_names) if name in names]
        for number in here:
            ask(pipeline, number)
        answers.update(zip(here, pipeline.execute(raise_on_error=raise_on_error), strict=True))
    return [answers[number] for number in range(len(queue_names))]


SUMMARY = (
    "status",
    "origin",
    "description",
    TASK_FIELD,
    "kit_priority",
    "kit_attempts",
    "retries_left",
    "created_at",
    "enqueued_at",
    "started_at",
    "ended_at",
    "worker_name",
)


def _summaries(state: str, rows: Sequence[Listed]) -> list[JobSummary]:
    answers = zip(rows, _ask_hashes(rows, SUMMARY), strict=True)
    found = [(row, summary_of(row, state, answer)) for row, answer in answers if exists(answer)]
    return [
        replace(summary, progress=reading.progress(progress), error=_last_line(error, failures))
        for (_, summary), (progress, error), failures in zip(
            found, _fetch_records(found), _fetch_failures(found), strict=True
        )
    ]


def exists(answer: Any) -> bool:
    return isinstance(answer, Exception) or any(answer)


def summary_of(row: Listed, state: str, answer: Any) -> JobSummary:
    if isinstance(answer, Exception):
        return unreadable(row, state)
    fields = dict(zip(SUMMARY, answer, strict=True))
    task, status = reading.task(fields[TASK_FIELD]), payloads.text(fields["status"] or b"created")
    state = _STATE_OF.get(status, state)
    return JobSummary(
        id=row.id,
        queue=payloads.text(fields["origin"] or b"") or row.queue,
        state=state,
        status=status,
        task=reading.task_name(task, fields["description"]),
        is_task=task is not None,
        priority=reading.integer(fields["kit_priority"]),
        attempts=reading.integer(fields["kit_attempts"]),
        retries_left=reading.integer(fields["retries_left"]),
        created_at=reading.moment(fields["created_at"]),
        enqueued_at=reading.moment(fields["enqueued_at"]),
        started_at=reading.moment(fields["started_at"]),
        ended_at=reading.moment(fields["ended_at"]),
        run_at=reading.epoch(row.score) if state == "scheduled" else None,
        worker=payloads.text(fields["worker_name"] or b""),
        actions=ACTIONS[state],
    )


def unreadable(row: Listed, state: str) -> JobSummary:
    return JobSummary(
        id=row.id, queue=row.queue, state=state, status="", task="", is_task=False, priority=0, attempts=0,
        retries_left=0, created_at=None, enqueued_at=None, started_at=None, ended_at=None, worker="",
        note="what is stored under its key is no job",
    )  # fmt: skip


def _fetch_records(found: Sequence[tuple[Listed, JobSummary]]) -> list[list[Any]]:
    """Progress and last error of each."""

    def ask(pipeline: Any, number: int) -> None:
        _, job = found[number]
        pipeline.hmget(queues.record_key(job.id), "progress", f"error:{job.attempts}")

    answers = _ask_each([row.queue for row, _ in found], ask, raise_on_error=False)
    return [answer if isinstance(answer, list) else [None, None] for answer in answers]


def _fetch_failures(found: Sequence[tuple[Listed, JobSummary]]) -> list[list[Any]]:
    """What RQ says of the last failure, where the task's own record of it may be missing."""
    failed = [row for row, job in found if job.state == "failed"]

    def ask(pipeline: Any, number: int) -> None:
        pipeline.xrevrange(results_key(failed[number].id), count=1)

    answers = _ask_each([row.queue for row in failed], ask, raise_on_error=False)
    said = {row.id: answer for row, answer in zip(failed, answers, strict=True) if isinstance(answer, list)}
    return [said.get(row.id, []) for row, _ in found]


def results_key(job_id: str) -> str:
    return f"{RQ_KEY_PREFIX}:results:{job_id}"


def _last_line(error: bytes | None, results: Sequence[Any]) -> str:
    """Of the traceback: what was raised."""
    traceback = reading.task_error(error)["traceback"] if error else ""
    if not traceback and results:
        traceback = payloads.traceback(results[0][1].get(b"exc_string", b""))
    lines = traceback.strip().splitlines()
    return lines[-1][:MAX_LINE] if lines else ""
