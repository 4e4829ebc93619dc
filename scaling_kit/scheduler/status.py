"""What the scheduler shows: who leads, what ran, what runs next. Only looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from scaling_kit.lease import Lease
from scaling_kit.redis import Purpose, client
from scaling_kit.scheduler import claim
from scaling_kit.scheduler.conf import settings
from scaling_kit.scheduler.schedule import Schedule, discovered

LEASE = "scaling_kit_scheduler"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A tick that was enqueued. `tick` is when it was due, in seconds since the epoch."""

    tick: int
    job_id: str


def snapshot() -> dict[str, Any]:
    """Leader and schedules as JSON. Times are seconds since the epoch. Raises `redis.RedisError`."""
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    holder = Lease(LEASE, client=redis).fetch_holder()
    schedules = sorted(discovered(), key=lambda schedule: schedule.name)
    pipeline = redis.pipeline(transaction=False)
    for schedule in schedules:
        pipeline.hgetall(claim.state_key(schedule.name))
    states = pipeline.execute()
    return {
        "leader": holder.owner if holder else None,
        "epoch": holder.epoch if holder else None,
        "schedules": [_entry(schedule, state) for schedule, state in zip(schedules, states, strict=True)],
    }


def fetch_runs(name: str) -> list[Run]:
    """The last runs of a schedule, the latest first. Raises `redis.RedisError`."""
    redis = client(Purpose.REQUEST, settings.REDIS_URL)
    found: list[tuple[str, float]] = redis.zrange(claim.history_key(name), 0, -1, desc=True, withscores=True)  # type: ignore[assignment]
    return [Run(tick=int(tick), job_id=job_id) for job_id, tick in found]


def _entry(schedule: Schedule, state: dict[str, str]) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "timetable": str(schedule.timetable),
        "enabled": schedule.enabled,
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "next_run_at": next(schedule.timetable.ticks(time.time()), None) if schedule.enabled else None,
        "last_run_at": float(state["run_at"]) if "run_at" in state else None,
        "last_job_id": state.get("job_id"),
        "runs": int(state.get("runs", 0)),
        "overlapped": int(state.get("overlapped", 0)),
    }
