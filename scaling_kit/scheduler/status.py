"""What the scheduler shows: who leads, what ran, what runs next. Only looks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim, stored
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Schedule
from scaling_kit.scheduler.stored import Found, Origin

LEASE = "scaling_kit_scheduler"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A tick that was enqueued, or a run by hand. `tick` is when it was due, in seconds since the epoch."""

    tick: int
    job_id: str

    @property
    def is_by_hand(self) -> bool:
        return self.job_id.endswith(f"{stored.BY_HAND}-{self.tick}")


@dataclass(frozen=True, kw_only=True)
class Leader:
    """The process that leads, as in `members.fetch_members()`, and the epoch of its leadership."""

    member: str
    epoch: int


def snapshot() -> dict[str, Any]:
    """Leader and schedules as JSON. Times are seconds since the epoch. Raises `redis.RedisError`."""
    found = sorted(stored.survey(), key=lambda one: one.name)
    leader = fetch_leader()
    return {
        "leader": leader.member if leader else None,
        "epoch": leader.epoch if leader else None,
        "schedules": fetch_entries(found),
        "unfit": [{"name": one.name, "origin": one.origin, "reason": one.reason} for one in found if one.reason],
    }


def fetch_leader() -> Leader | None:
    """Raises `redis.RedisError`."""
    holder = Lease(LEASE, client=client(Purpose.REQUEST, settings.REDIS_URL)).fetch_holder()
    return Leader(member=holder.owner, epoch=holder.epoch) if holder else None


def fetch_entries(found: Sequence[Found]) -> list[dict[str, Any]]:
    """What is known of each schedule that can run. Raises `redis.RedisError`."""
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    schedules = [(one.schedule, one.origin) for one in found if one.schedule]
    pipeline = redis.pipeline(transaction=False)
    for schedule, _ in schedules:
        pipeline.hgetall(claim.state_key(schedule.name))
        pipeline.zrevrange(claim.history_key(schedule.name), 0, 0, withscores=True)
    answers = iter(pipeline.execute())
    entries = [_entry(schedule, origin, next(answers), _runs(next(answers))) for schedule, origin in schedules]
    statuses = _fetch_statuses(redis, [entry.pop("job_key") for entry in entries])
    return [entry | {"last_job_status": status} for entry, status in zip(entries, statuses, strict=True)]


def fetch_runs(name: str, limit: int = 0) -> list[Run]:
    """The last runs of a schedule, the latest first; all that are remembered, or so many. Raises `redis.RedisError`."""
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    return _runs(redis.zrange(claim.history_key(name), 0, limit - 1, desc=True, withscores=True))


def fetch_job_statuses(schedule: Schedule, runs: Sequence[Run]) -> list[str | None]:
    """As the queue's backend words it; None for a job that is no longer kept. Raises `redis.RedisError`."""
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    return _fetch_statuses(redis, [_job_key(schedule, run.job_id) for run in runs])


def _runs(found: Any) -> list[Run]:
    return [Run(tick=int(tick), job_id=job_id) for job_id, tick in found]


def _entry(schedule: Schedule, origin: Origin, state: dict[str, str], runs: Sequence[Run]) -> dict[str, Any]:
    run_at = float(state["run_at"]) if "run_at" in state else None
    job_id, job_key = state.get("job_id"), state.get("job_key", "")
    by_hand = next((run for run in runs if run.is_by_hand and run.tick >= (run_at or 0)), None)
    if by_hand:
        run_at, job_id, job_key = float(by_hand.tick), by_hand.job_id, _job_key(schedule, by_hand.job_id)
    return {
        "name": schedule.name,
        "origin": origin,
        "timetable": str(schedule.timetable),
        "enabled": schedule.enabled,
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "next_run_at": _next_run_at(schedule) if schedule.enabled else None,
        "last_run_at": run_at,
        "last_job_id": job_id,
        "job_key": job_key,
        "runs": int(state.get("runs", 0)),
        "overlapped": int(state.get("overlapped", 0)),
    }


def _next_run_at(schedule: Schedule) -> float | None:
    delay = schedule.delay_seconds
    try:
        tick = next(schedule.timetable.ticks(time.time() - delay), None)
    except (ValueError, OverflowError):  # declared with a mistake, which is a system check
        return None
    return None if tick is None else tick + delay


def _job_key(schedule: Schedule, job_id: str) -> str:
    """Where the job is, or '' if its backend does not say."""
    try:
        job = claim.prepared(schedule, job_id)
    except Exception:  # whatever a backend finds wrong now, with a job of long ago
        return ""
    return job.hash_key if job else ""


def _fetch_statuses(redis: redis.Redis, job_keys: Sequence[str]) -> list[str | None]:
    pipeline = redis.pipeline(transaction=False)
    for job_key in filter(None, job_keys):
        pipeline.hget(job_key, "status")
    statuses = iter(pipeline.execute())
    return [next(statuses) if job_key else None for job_key in job_keys]
