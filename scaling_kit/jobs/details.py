"""All there is to know of one job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import redis

from scaling_kit.jobs import fields as reading
from scaling_kit.jobs import payloads, queues
from scaling_kit.jobs.counts import connections, registry_key
from scaling_kit.jobs.exceptions import NoSuchJobError
from scaling_kit.jobs.fields import MAX_LINE
from scaling_kit.jobs.job import TASK_FIELD
from scaling_kit.jobs.listing import SUMMARY, JobSummary, Listed, exists, results_key, summary_of, unreadable
from scaling_kit.jobs.progress import LogLine

SHOWN_ATTEMPTS = 50
SHOWN_LOG_LINES = 200
SHOWN_RESULTS = 10
SHOWN_DEPENDENTS = 100


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """`exception` and `traceback` are empty unless it failed."""

    number: int
    worker: str = ""
    exception: str = ""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class JobDetail(JobSummary):
    """All there is to know of one job. `history` has its attempts, the first one first."""

    function: str
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    arguments_reason: str
    result: Any
    result_reason: str
    history: Sequence[Attempt]
    log: Sequence[LogLine]
    description: str
    retry: Mapping[str, Any] | None
    timeout_seconds: int | None
    expires_at: datetime | None
    kept_seconds: int | None
    result_ttl_seconds: int | None
    failure_ttl_seconds: int | None
    kills: int
    is_unique: bool
    last_heartbeat_at: datetime | None
    depends_on: Sequence[str]
    dependents: Sequence[str]


_DETAIL = (
    *SUMMARY,
    "timeout",
    "result_ttl",
    "failure_ttl",
    "kit_expires_at",
    "kit_kills",
    "kit_unique",
    "last_heartbeat",
    "dependency_ids",
)


def fetch_job(job_id: str) -> JobDetail:
    """Raises `NoSuchJobError`, `redis.RedisError`. Two round trips."""
    for connection in connections():
        found = _fetch_job(connection, job_id)
        if found is not None:
            return found
    raise NoSuchJobError


def fetch_log_lines(job_id: str, *, after: str = "", limit: int = SHOWN_LOG_LINES) -> list[LogLine]:
    """The lines a job has logged after this `entry`, the oldest first: at most `limit`.

    Without `after` the last ones. Raises `NoSuchJobError`, `ValueError` for an entry that is none, `redis.RedisError`.
    """
    for connection in connections():
        pipeline = connection.pipeline(transaction=False)
        pipeline.exists(queues.job_key(job_id), queues.log_key(job_id))
        if after:
            pipeline.xrange(queues.log_key(job_id), min=f"({_stream_id(after)}", count=limit)
        else:
            pipeline.xrevrange(queues.log_key(job_id), count=limit)
        exists, lines = pipeline.execute()
        if exists:
            return _log(lines if after else lines[::-1])
    raise NoSuchJobError


def _fetch_job(connection: redis.Redis, job_id: str) -> JobDetail | None:
    record_key, job_key = queues.record_key(job_id), queues.job_key(job_id)
    pipeline = connection.pipeline(transaction=False)
    pipeline.hmget(job_key, _DETAIL)
    pipeline.hstrlen(job_key, "data")
    pipeline.ttl(job_key)
    pipeline.hkeys(record_key)
    pipeline.hstrlen(record_key, "return_value")
    pipeline.xrevrange(queues.log_key(job_id), count=SHOWN_LOG_LINES)
    pipeline.xrevrange(results_key(job_id), count=SHOWN_RESULTS)
    pipeline.srandmember(f"{job_key}:dependents", SHOWN_DEPENDENTS)
    answer, size, ttl, names, result_size, log, results, dependents = pipeline.execute(raise_on_error=False)
    if not exists(answer):
        return None
    if isinstance(answer, Exception):
        return _detail(unreadable(Listed(id=job_id, queue=""), "deferred"), {}, log=[], dependents=[])
    fields = dict(zip(_DETAIL, answer, strict=True))
    numbers = _attempt_numbers(names)
    data, record, score = _fetch_contents(
        connection, job_id, size, result_size, numbers, payloads.text(fields["origin"] or b"")
    )
    row = Listed(id=job_id, queue=payloads.text(fields["origin"] or b""), score=score or 0.0)
    summary = summary_of(row, "deferred", answer[: len(SUMMARY)])
    call = payloads.call(data) if data else payloads.Call(reason=payloads.TOO_LARGE if size else "missing")
    history = _history(summary, record, numbers, results)
    result = _result(summary, record, results, result_size)
    last = history[-1] if history else Attempt(number=0)
    return replace(
        _detail(summary, fields, log=_log(log[::-1]), dependents=[payloads.text(found) for found in dependents]),
        run_at=reading.epoch(score) if score is not None and summary.state == "scheduled" else None,
        progress=reading.progress(record.get("progress")),
        error=(last.traceback.strip().splitlines() or [""])[-1][:MAX_LINE] if summary.state == "failed" else "",
        function=call.function,
        args=call.args,
        kwargs=call.kwargs,
        arguments_reason=call.reason,
        result=result.value,
        result_reason=result.reason,
        history=history,
        kept_seconds=ttl if ttl >= 0 else None,
    )


def _fetch_contents(
    connection: redis.Redis, job_id: str, size: int, result_size: int, numbers: Sequence[int], queue_name: str
) -> tuple[bytes | None, dict[str, bytes | None], float | None]:
    """What the job calls, its record, and when it is due: as far as they are not too large to be shown."""
    fields = ["progress", *(f"{name}:{number}" for number in numbers for name in ("worker", "error"))]
    fields += ["return_value"] if result_size <= payloads.MAX_BYTES else []
    pipeline = connection.pipeline(transaction=False)
    pipeline.hget(queues.job_key(job_id), "data" if size <= payloads.MAX_BYTES else "nothing")
    pipeline.hmget(queues.record_key(job_id), fields)
    pipeline.zscore(registry_key("scheduled", queue_name), job_id)
    data, values, score = pipeline.execute()
    return data, dict(zip(fields, values, strict=True)), score


def _detail(summary: JobSummary, fields: Mapping[str, bytes | None], **known: Any) -> JobDetail:
    task = reading.task(fields.get(TASK_FIELD))
    return JobDetail(
        **{name: getattr(summary, name) for name in JobSummary.__dataclass_fields__},
        function="",
        args=None,
        kwargs=None,
        arguments_reason=summary.note,
        result=None,
        result_reason="",
        history=(),
        description=payloads.text(fields.get("description") or b"")[:MAX_LINE],
        retry=task.get("retry") if task else None,
        timeout_seconds=reading.integer(fields.get("timeout"), None),
        expires_at=reading.epoch(reading.number(fields.get("kit_expires_at"))),
        kept_seconds=None,
        result_ttl_seconds=reading.integer(fields.get("result_ttl"), None),
        failure_ttl_seconds=reading.integer(fields.get("failure_ttl"), None),
        kills=reading.integer(fields.get("kit_kills")),
        is_unique=bool(fields.get("kit_unique")),
        last_heartbeat_at=reading.moment(fields.get("last_heartbeat")),
        depends_on=reading.names(fields.get("dependency_ids")),
        **known,
    )


def _attempt_numbers(names: Iterable[bytes]) -> list[int]:
    """Of the attempts that the record speaks of, the last ones."""
    parts = [payloads.text(name).partition(":") for name in names]
    found = {int(number) for name, _, number in parts if name in ("worker", "error") and number.isdecimal()}
    return sorted(found)[-SHOWN_ATTEMPTS:]


def _history(
    summary: JobSummary, record: Mapping[str, bytes | None], numbers: Sequence[int], results: Sequence[Any]
) -> list[Attempt]:
    found = [
        Attempt(
            number=number,
            worker=payloads.text(record[f"worker:{number}"] or b""),
            **reading.task_error(record[f"error:{number}"]),
        )
        for number in numbers
    ]
    if not found:
        return [_attempt_of_rq(number, fields) for number, (_, fields) in enumerate(results[::-1], start=1)]
    if summary.state == "failed" and not found[-1].traceback and results:
        # It failed in a way that the task itself could not record.
        found[-1] = replace(_attempt_of_rq(found[-1].number, results[0][1]), worker=found[-1].worker)
    return found


def _attempt_of_rq(number: int, fields: Mapping[bytes, bytes]) -> Attempt:
    traceback = payloads.traceback(fields.get(b"exc_string", b""))
    raised = (traceback.strip().splitlines() or [""])[-1].partition(":")[0]
    worker = payloads.text(fields.get(b"worker_name", b""))
    return Attempt(number=number, worker=worker, exception=raised[:MAX_LINE], traceback=traceback)


def _result(
    summary: JobSummary, record: Mapping[str, bytes | None], results: Sequence[Any], size: int
) -> payloads.Value:
    if summary.state != "finished":
        return payloads.Value()
    if size > payloads.MAX_BYTES:
        return payloads.Value(reason=payloads.TOO_LARGE)
    if record.get("return_value") is not None:
        return payloads.json_value(record["return_value"] or b"")
    returned = results[0][1].get(b"return_value") if results and not summary.is_task else None
    return payloads.base64_value(returned) if returned else payloads.Value()


def _log(lines: Iterable[Any]) -> list[LogLine]:
    return [
        LogLine(
            entry=payloads.text(entry),
            at=datetime.fromtimestamp(int(entry.partition(b"-")[0]) / 1000, UTC),
            message=payloads.ending(payloads.text(fields.get(b"message", b""))),
        )
        for entry, fields in lines
    ]


def _stream_id(text: str) -> str:
    milliseconds, dash, number = text.partition("-")
    if not (
        milliseconds.isdecimal() and len(milliseconds) < 16 and (not dash or (number.isdecimal() and len(number) < 19))
    ):
        raise ValueError(f"{text!r} is not the entry of a line")
    return text
