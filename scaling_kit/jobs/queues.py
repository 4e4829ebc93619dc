"""Where the queues are, how their keys are spelled, and the scripts that write them.

The keys are RQ's own, so that its producers, `Job.fetch` and dashboards go on working. Beside them the kit keeps,
per queue, one list for each priority other than 0 (`rq:queue:default:p50`), a set of the priorities in use, and a
bell that is rung for those lists.
"""

from __future__ import annotations

import base64
import logging
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import redis
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text, now, utcformat

from scaling_kit.jobs.conf import settings
from scaling_kit.lease import Lease
from scaling_kit.redis import ConnectionFailures, Purpose, Script, client, key

logger = logging.getLogger(__name__)

T = TypeVar("T")

CLAIM = Script.beside(__file__, "claim", idempotent=True)
HAND_BACK = Script.beside(__file__, "hand_back", idempotent=True)
BEAT = Script.beside(__file__, "beat", idempotent=True)
MOVE_DUE = Script.beside(__file__, "move_due", idempotent=True)
FIND_ORPHANS = Script.beside(__file__, "find_orphans", idempotent=True)

# RQ's own sweeps, which a look at its dashboard starts, must leave our jobs to us: they consider a job abandoned
# when it has not been heard of for this long.
RQ_MARGIN_SECONDS = 300

# What says that Redis does not answer now, and may in a moment.
AWAY = (*ConnectionFailures, redis.exceptions.BusyLoadingError)
RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Claimed:
    queue_name: str
    job_id: str
    execution_id: str
    fields: Mapping[bytes, bytes]


def names() -> list[str]:
    """The queues of RQ_QUEUES, in the order written there."""
    return list(getattr(django_settings, "RQ_QUEUES", {}))


def config(queue_name: str) -> Mapping[str, Any]:
    """A queue's entry in RQ_QUEUES. Raises `ImproperlyConfigured` if it has none."""
    try:
        return cast(Mapping[str, Any], django_settings.RQ_QUEUES[queue_name])
    except (AttributeError, KeyError):
        found = ", ".join(names()) or "none"
        raise ImproperlyConfigured(f"There is no queue {queue_name!r} in RQ_QUEUES; there are: {found}") from None


def url(queue_name: str) -> str:
    """Where a queue of RQ_QUEUES is. Raises `ImproperlyConfigured` for an unknown queue, or one without an address."""
    entry = config(queue_name)
    if "URL" in entry:
        separator = "&" if "?" in entry["URL"] else "?"
        return f"{entry['URL']}{separator}db={entry['DB']}" if entry.get("DB") is not None else entry["URL"]
    if "UNIX_SOCKET_PATH" in entry:
        return f"unix://{_credentials(entry)}{entry['UNIX_SOCKET_PATH']}?{urlencode({'db': entry.get('DB', 0)})}"
    if "HOST" in entry:
        scheme = "rediss" if entry.get("SSL") else "redis"
        return f"{scheme}://{_credentials(entry)}{entry['HOST']}:{entry.get('PORT', 6379)}/{entry.get('DB') or 0}"
    raise ImproperlyConfigured(f"RQ_QUEUES[{queue_name!r}] needs a URL (or HOST, or UNIX_SOCKET_PATH)")


def _credentials(entry: Mapping[str, Any]) -> str:
    if not entry.get("PASSWORD"):
        return ""
    return f"{quote(entry.get('USERNAME') or '', safe='')}:{quote(entry['PASSWORD'], safe='')}@"


def connection(queue_name: str, purpose: Purpose = Purpose.SCRIPT) -> redis.Redis:
    """The client for a queue's Redis; replies are bytes, as RQ expects them."""
    return client(purpose, url(queue_name), decode=False)


def queue_key(queue_name: str, priority: int = 0) -> str:
    return f"{RQ_KEY_PREFIX}:queue:{queue_name}" + (f":p{priority}" if priority else "")


def priorities_key(queue_name: str) -> str:
    return f"{queue_key(queue_name)}:priorities"


def bell_key(queue_name: str) -> str:
    return f"{queue_key(queue_name)}:bell"


def scheduled_key(queue_name: str) -> str:
    return f"{RQ_KEY_PREFIX}:scheduled:{queue_name}"


def started_key(queue_name: str) -> str:
    return f"{RQ_KEY_PREFIX}:wip:{queue_name}"


def failed_key(queue_name: str) -> str:
    return f"{RQ_KEY_PREFIX}:failed:{queue_name}"


def job_key(job_id: str) -> str:
    return f"{RQ_KEY_PREFIX}:job:{job_id}"


def alive_key(worker: str) -> str:
    """Exists as long as the worker's supervisor says that the worker lives."""
    return key("jobs", "alive", worker)


def record_key(job_id: str) -> str:
    """What happened to a task, attempt by attempt; RQ's own `meta` is overwritten by parents of killed processes."""
    return key("jobs", "record", job_id)


def log_key(job_id: str) -> str:
    return key("jobs", "log", job_id)


def event_channel(job_id: str) -> str:
    """Where what happens to a job is published."""
    return key("jobs", "event", job_id)


def claim(queue_names: Sequence[str], worker: str, execution_id: str) -> Claimed | None:
    """Take the next job of several queues, the first queue first, and mark it started by `worker`.

    None if there is none, or RQ's workers are suspended. A repetition with the same `execution_id` is answered with
    the same job, so a lost reply loses nothing.
    """
    found = CLAIM(
        connection(queue_names[0]),
        [key("jobs", "claim", worker), *map(queue_key, queue_names)],
        [RQ_KEY_PREFIX, worker, execution_id, utcformat(now()), RQ_MARGIN_SECONDS],
    )
    if not found:
        return None
    queue, job_id, flat = found
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    queue_name = queue.decode().removeprefix(queue_key(""))
    return Claimed(queue_name=queue_name, job_id=job_id.decode(), execution_id=execution_id, fields=fields)


def hand_back(
    queue_name: str,
    job_id: str,
    execution_id: str,
    worker: str,
    *,
    reason: str,
    killed: bool,
    lease: Lease | None = None,
) -> str:
    """Put a started job that nobody runs any more back at the head of its queue, once, whoever calls this how often.

    `killed` counts against the job: after SCALING_KIT_JOBS_MAX_KILLS it fails. With a `lease` this is a sweep: only
    its holder may do so, and only while the worker is not heard of. Returns `requeued`, `failed`, or `no` when there
    was nothing to hand back.
    """
    error = f"The process that ran this job died {settings.MAX_KILLS} times, the last time because: {reason}"
    packed = zlib.compress(error.encode())
    answer = HAND_BACK(
        connection(queue_name),
        [record_key(job_id), alive_key(worker), lease.holder_key if lease else ""],
        [
            RQ_KEY_PREFIX,
            queue_name,
            job_id,
            execution_id,
            worker,
            int(killed),
            settings.MAX_KILLS,
            lease.token if lease else "",
            utcformat(now()),
            reason,
            base64.b64encode(packed),
            settings.FAILURE_TTL_SECONDS,
        ],
    )
    return str(answer.decode())


def executions(queue_name: str, worker: str) -> list[tuple[str, str, str]]:
    """(queue name, job id, execution id) of what a worker has started and not ended."""
    redis = connection(queue_name)
    found = []
    for composite in redis.smembers(f"{RQ_KEY_PREFIX}:worker:{worker}:executions"):
        job_id, _, execution_id = as_text(composite).partition(":")
        origin = redis.hget(job_key(job_id), "origin")
        found.append((as_text(origin) if origin else queue_name, job_id, execution_id))
    return found


def forget_worker(queue_name: str, worker: str) -> None:
    """Take a worker that died off RQ's dashboard; what else RQ keeps of it is dropped by the upkeep."""
    connection(queue_name).delete(alive_key(worker), f"{RQ_KEY_PREFIX}:worker:{worker}")


def beat(queue_name: str, workers: Sequence[str], *, purpose: Purpose = Purpose.REQUEST) -> None:
    """Say that these workers live, and with them the jobs they run. Raises `redis.RedisError`."""
    BEAT(
        connection(queue_name, purpose),
        [alive_key(worker) for worker in workers],
        [RQ_KEY_PREFIX, round(settings.WORKER_TTL_SECONDS * 1000), RQ_MARGIN_SECONDS, utcformat(now()), *workers],
    )


def insist(action: Callable[[], T]) -> T:
    """Do something that must be done, through an outage of Redis: again and again, until it answers."""
    announced = False
    while True:
        try:
            result = action()
        except AWAY as error:
            if not announced:
                logger.warning("redis_reachable=False pid=%s waiting to go on, error=%r", os.getpid(), error)
            announced = True
            time.sleep(RETRY_SECONDS)
        else:
            if announced:
                logger.info("redis_reachable=True pid=%s", os.getpid())
            return result


def move_due(queue_name: str, lease: Lease, *, limit: int = 500) -> tuple[int, float | None, list[str]]:
    """Move what is due from the schedule to the queue, if we hold the lease in that same Redis.

    Returns how many were moved, the seconds until the next is due (None: nothing is scheduled), and ids that are due
    but belong to a rate limit, which only RQ itself can enqueue.
    """
    moved, next_in_ms, limited = MOVE_DUE(
        connection(queue_name),
        [lease.holder_key, scheduled_key(queue_name), queue_key(queue_name)],
        [lease.token, RQ_KEY_PREFIX, utcformat(now()), limit],
    )
    return moved, None if next_in_ms < 0 else next_in_ms / 1000, [job_id.decode() for job_id in limited]


def find_orphans(queue_name: str, lease: Lease, *, sure_after_seconds: float) -> list[tuple[str, str, str]]:
    """(job id, execution id, worker) of started jobs whose worker has not been heard of for a while.

    A worker that is silent is first suspected, and only `sure_after_seconds` later given up: after Redis itself was
    away nobody has beaten yet. Also returns to its queue what a stock RQ worker left between pop and start.
    """
    found = FIND_ORPHANS(
        connection(queue_name),
        [lease.holder_key, started_key(queue_name), queue_key(queue_name), key("jobs", "suspects", queue_name)],
        [lease.token, RQ_KEY_PREFIX, key("jobs", "alive", ""), sure_after_seconds],
    )
    return [(job_id.decode(), execution_id.decode(), worker.decode()) for job_id, execution_id, worker in found]
