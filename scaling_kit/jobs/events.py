"""What happens to jobs, as it happens: for a websocket, server-sent events, or a script that waits for its job.

Redis tells those who listen and keeps nothing. So `follow` subscribes first, then reads how the job stands, and
reads it again whenever something may have been missed: it ends only when the job has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any

from scaling_kit.jobs import queues
from scaling_kit.redis import Purpose, async_client, client, key

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""`event`, `id`, `queue`, `at` (epoch seconds), and what belongs to that event."""

FINAL = frozenset({"finished", "failed", "stopped", "canceled", None})
# A follower that hears nothing for so long looks by itself.
LOOK_SECONDS = 15.0


def listen(job_id: str | None = None) -> Generator[Event]:
    """The events of one job, or of all, from now on and without end. What happens while Redis is away is missed."""
    with closing(_heard(job_id, LOOK_SECONDS)) as heard:
        yield from (event for event in heard if event is not None)


def follow(job_id: str, *, look_seconds: float = LOOK_SECONDS) -> Generator[Event]:
    """How a job stands, then its events, then how it stands in the end.

    How it stands is an event `state` with `status` (RQ's, None if there is no such job) and `progress`. The last one
    is always yielded, through restarts of Redis too. Every follower takes a connection to Redis.
    """
    shown: Event = {}
    with closing(_heard(job_id, look_seconds)) as heard:
        for event in heard:
            if event is not None:
                yield event
            if event is None or event["event"] in ENDINGS:
                state = queues.insist(lambda: fetch_state(job_id))
                if _differs(state, shown):
                    yield state
                shown = state
                if state["status"] in FINAL:
                    return


async def alisten(job_id: str | None = None) -> AsyncGenerator[Event]:
    """`listen` for asyncio. Close it (`contextlib.aclosing`) when you stop before its end."""
    async with aclosing(_aheard(job_id, LOOK_SECONDS)) as heard:
        async for event in heard:
            if event is not None:
                yield event


async def afollow(job_id: str, *, look_seconds: float = LOOK_SECONDS) -> AsyncGenerator[Event]:
    """`follow` for asyncio. Close it (`contextlib.aclosing`) when you stop before its end."""
    shown: Event = {}
    async with aclosing(_aheard(job_id, look_seconds)) as heard:
        async for event in heard:
            if event is not None:
                yield event
            if event is None or event["event"] in ENDINGS:
                state = await _ainsist_on_state(job_id)
                if _differs(state, shown):
                    yield state
                shown = state
                if state["status"] in FINAL:
                    return


def fetch_state(job_id: str) -> Event:
    """How a job stands now, as an event `state`. Raises `redis.RedisError`."""
    pipeline = client(Purpose.SCRIPT).pipeline(transaction=False)
    _ask_for_state(pipeline, job_id)
    return _state(job_id, pipeline.execute())


# After these it is the job's state that says whether it has ended: a job that failed may have been enqueued again.
ENDINGS = frozenset({"succeeded", "failed", "canceled", "stopped", "expired", "removed", "handed_back"})


def _differs(state: Event, shown: Event) -> bool:
    return any(state[name] != shown.get(name, "") for name in ("status", "progress"))


def _ask_for_state(pipeline: Any, job_id: str) -> None:
    pipeline.hmget(queues.job_key(job_id), "status", "origin")
    pipeline.hget(queues.record_key(job_id), "progress")
    pipeline.time()


def _state(job_id: str, answers: list[Any]) -> Event:
    (status, queue), progress, (seconds, microseconds) = answers
    return {
        "event": "state",
        "id": job_id,
        "queue": queue,
        "status": status,
        "progress": json.loads(progress) if progress else None,
        "at": seconds + microseconds / 1_000_000,
    }


def _heard(job_id: str | None, silence_seconds: float) -> Generator[Event | None]:
    """Events; None whenever some may have been missed: subscribed (again), or nothing heard for so long."""
    connected = True
    while True:
        try:
            with client(Purpose.BLOCKING).pubsub() as pubsub:  # type: ignore[no-untyped-call]
                pubsub.psubscribe(_pattern(job_id))
                while True:
                    event = _event(pubsub.get_message(timeout=silence_seconds))
                    connected = _say(connected, now=True)
                    yield event
        except queues.AWAY as error:
            connected = _say(connected, now=False, error=error)
            time.sleep(queues.RETRY_SECONDS)


async def _aheard(job_id: str | None, silence_seconds: float) -> AsyncGenerator[Event | None]:
    connected = True
    while True:
        redis = async_client(Purpose.BLOCKING)
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.psubscribe(_pattern(job_id))
                while True:
                    event = _event(await pubsub.get_message(timeout=silence_seconds))
                    connected = _say(connected, now=True)
                    yield event
        except queues.AWAY as error:
            connected = _say(connected, now=False, error=error)
            await asyncio.sleep(queues.RETRY_SECONDS)
        finally:
            await redis.aclose()


async def _ainsist_on_state(job_id: str) -> Event:
    while True:
        redis = async_client(Purpose.SCRIPT)
        try:
            pipeline = redis.pipeline(transaction=False)
            _ask_for_state(pipeline, job_id)
            return _state(job_id, await pipeline.execute())
        except queues.AWAY as error:
            logger.warning("job follower redis_reachable=False id=%s error=%r", job_id, error)
            await asyncio.sleep(queues.RETRY_SECONDS)
        finally:
            await redis.aclose()


def _pattern(job_id: str | None) -> str:
    """A pattern, with whatever else Redis would take for one in the key's prefix or the id escaped."""
    prefix = _escaped(key("jobs", "event", ""))
    return prefix + (_escaped(job_id) if job_id is not None else "*")


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def _event(message: Any) -> Event | None:
    """None for silence, and for the answer to the subscription: only what is said after that is sure to be heard."""
    if message is None or message["type"] != "pmessage":
        return None
    event: Event = json.loads(message["data"])
    return event


def _say(connected: bool, *, now: bool, error: object = None) -> bool:
    if now != connected:
        logger.log(logging.INFO if now else logging.WARNING, "job events redis_reachable=%s error=%r", now, error)
    return now
