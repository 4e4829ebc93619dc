"""Where the queues are, and how their keys are spelled.

The keys are RQ's own, so that its producers, `Job.fetch` and dashboards go on working. Beside them the kit keeps,
per queue, one list for each priority other than 0 (`rq:queue:default:p50`), a set of the priorities in use, and a
bell that is rung for those lists.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import redis
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue

from scaling_kit.jobs.job import Job
from scaling_kit.redis import ConnectionFailures, Purpose, client, key

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What says that Redis does not answer now, or takes no writes, and may in a moment.
AWAY = (
    *ConnectionFailures,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
)
RETRY_SECONDS = 1.0


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


def stock_queue(queue_name: str) -> Queue:
    """RQ's own object for a queue."""
    entry = config(queue_name)
    return _stock_queue(queue_name, connection(queue_name), entry.get("SERIALIZER"), entry.get("DEFAULT_TIMEOUT"))


@lru_cache(maxsize=64)  # making one costs as much as the rest of reading a job
def _stock_queue(queue_name: str, redis: redis.Redis, serializer: str | None, default_timeout: int | None) -> Queue:
    return Queue(queue_name, connection=redis, job_class=Job, serializer=serializer, default_timeout=default_timeout)


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


def paused_key() -> str:
    """The names of the queues from which nothing is taken for now."""
    return key("jobs", "paused")


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
