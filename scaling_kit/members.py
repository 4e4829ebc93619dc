"""Who is there: every process of the project registers in Redis and beats, so that any process can list them all.

A process joins once, `members.join("web")`, after its last fork. It is gone from the list at once when it leaves,
and `SCALING_KIT_MEMBER_TTL_SECONDS` after its last beat when it was killed.
Counters (`members.count("cache.hit")`) cost a dictionary increment; the beat adds them up in Redis.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from scaling_kit.conf import Settings
from scaling_kit.conf import settings as hall
from scaling_kit.redis import Purpose, RedisError, Script, client, key

logger = logging.getLogger(__name__)

BEAT = Script.beside(__file__, "members_beat")
SLOT_SECONDS = 10  # as in the script


class MemberSettings(Settings, prefix="SCALING_KIT_MEMBER_"):
    # Below 15 s, so that who looks sees the truth within 15 s whatever happened: a beat may be under way when it does.
    TTL_SECONDS: float = 12.0
    # Shown as the host of this process; defaults to the machine's name.
    HOST: str = ""


settings = MemberSettings()


def host() -> str:
    return settings.HOST or socket.gethostname()


def member_id(pid: int) -> str:
    return f"{host()}:{pid}"


class Member:
    """This process as the others see it. Make one with `join()`."""

    def __init__(self, role: str, **info: Any) -> None:
        self.role = role
        self.id = member_id(os.getpid())
        self.started_at = time.time()
        self._info: dict[str, Any] = info
        self._cpu = _CpuShare()
        self._wake = threading.Event()
        self.has_left = False
        self._thread = threading.Thread(target=self._beat_until_stopped, name="scaling_kit-beat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def update(self, **info: Any) -> None:
        """Change what the others see (`state="busy"`), within moments. Never waits."""
        self._info |= info
        self._wake.set()

    def leave(self) -> None:
        """Disappear from the list, after the counters have been handed over."""
        self.has_left = True
        self._wake.set()
        self._thread.join(timeout=1.0)
        forget(os.getpid())

    def beat(self) -> None:
        """Register, renew, and hand over the counters. Raises `redis.RedisError`."""
        counted = _take_counts()
        watched = {name: read() for name, read in _watched.items()}
        fields = {**self._facts(), **watched, **self._info}
        flat = [str(item) for pair in fields.items() for item in pair]
        increments = [str(item) for pair in counted.items() for item in pair]
        try:
            BEAT(
                client(Purpose.SCRIPT),
                [_record_key(self.id), _index_key(), _totals_key(), _history_key()],
                [self.id, round(settings.TTL_SECONDS * 1000), len(fields), *flat, *increments],
            )
        except RedisError:
            for name, amount in counted.items():  # counted again with the next beat
                count(name, amount)
            raise

    def _facts(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "role": self.role,
            "host": host(),
            "pid": os.getpid(),
            "release": hall.RELEASE,
            "started_at": self.started_at,
            "ttl_seconds": settings.TTL_SECONDS,
            "rss_bytes": rss_bytes(),
            "cpu_seconds": round(time.process_time(), 2),
            "cpu_percent": round(self._cpu.measure()),
        }

    def _beat_until_stopped(self) -> None:
        was_reachable = True
        while not self.has_left:
            reachable = self._try_to_beat()
            if reachable != was_reachable:
                logger.log(logging.INFO if reachable else logging.WARNING, "heartbeat redis_reachable=%s", reachable)
            was_reachable = reachable
            self._wake.wait(settings.TTL_SECONDS / 3 if reachable else 1.0)
            self._wake.clear()
            time.sleep(0.05)  # many updates in a burst make one beat
        self._try_to_beat()  # hands over what was counted since the last one

    def _try_to_beat(self) -> bool:
        try:
            self.beat()
        except RedisError:
            return False
        return True


class _CpuShare:
    """Of one core, in percent, since it was last measured, which is over a second at least."""

    def __init__(self) -> None:
        self._percent = 0.0
        self._at, self._seconds = time.monotonic(), time.process_time()

    def measure(self) -> float:
        now, seconds = time.monotonic(), time.process_time()
        if now - self._at >= 1.0:
            self._percent = 100 * (seconds - self._seconds) / (now - self._at)
            self._at, self._seconds = now, seconds
        return self._percent


_counts: Counter[str] = Counter()
_counting = threading.Lock()
_current: Member | None = None
_watched: dict[str, Callable[[], Any]] = {}


def join(role: str, **info: Any) -> Member:
    """Register this process and beat from a daemon thread until it ends. Call it after the last fork."""
    global _current
    _current = Member(role, **info)
    _current.start()
    return _current


def current() -> Member | None:
    """This process's own entry, or None if it never joined (a shell, a test), has left, or is a fork."""
    if _current is None or _current.has_left or _current.id != member_id(os.getpid()):
        return None
    return _current


def watch(name: str, read: Callable[[], Any]) -> None:
    """Show the others what `read()` says at each beat, under this name. It must be quick, and not raise."""
    _watched[name] = read


def count(name: str, amount: int = 1) -> None:
    """Add to a counter of the whole cluster. Reaches Redis with the next beat; at most one beat is lost by kill -9."""
    with _counting:
        _counts[name] += amount


def count_each(*names: str) -> None:
    """Add one to several counters."""
    with _counting:
        for name in names:
            _counts[name] += 1


def forget(pid: int) -> None:
    """Take a process of this host off the list, its own or a dead child. Never raises: the entry expires anyway."""
    member = member_id(pid)
    try:
        pipeline = client(Purpose.REQUEST).pipeline()
        pipeline.delete(_record_key(member))
        pipeline.zrem(_index_key(), member)
        pipeline.execute()
    except RedisError:
        logger.debug("forget member=%s failed, its entry expires by itself", member)


def fetch_members() -> list[dict[str, str]]:
    """Every live process, by host, role and age. Raises `redis.RedisError`."""
    redis = client(Purpose.SCRIPT)
    pipeline = redis.pipeline(transaction=False)
    for member in redis.zrange(_index_key(), 0, -1):
        pipeline.hgetall(_record_key(str(member)))
    found = [record for record in pipeline.execute() if record]
    return sorted(found, key=lambda record: (record["host"], record["role"], float(record["started_at"])))


def fetch_clock() -> float:
    """Seconds since 1970 by the clock of Redis, which `beat_at` is in. Raises `redis.RedisError`."""
    seconds, microseconds = client(Purpose.SCRIPT).time()
    return float(seconds) + microseconds / 1e6


def fetch_totals() -> dict[str, int]:
    """The counters of all processes that ever counted, living and dead. Raises `redis.RedisError`."""
    totals: dict[str, str] = client(Purpose.SCRIPT).hgetall(_totals_key())  # type: ignore[assignment]
    return {name: int(value) for name, value in totals.items()}


def fetch_history(*, minutes: float = 10.0) -> list[tuple[int, dict[str, int]]]:
    """What the counters grew by in each slot of SLOT_SECONDS, the oldest first: when it began, in seconds since 1970,
    and the increments that beats brought in it. Of the last 20 minutes at most; the slot of now is not over.

    What a process counts while Redis is away is in the slot of its next beat. Raises `redis.RedisError`.
    """
    redis = client(Purpose.SCRIPT)
    now = int(redis.time()[0])
    last = now - now % SLOT_SECONDS
    slots = range(last - round(minutes * 60), last + 1, SLOT_SECONDS)
    pipeline = redis.pipeline(transaction=False)
    for slot in slots:
        pipeline.hgetall(f"{_history_key()}:{slot}")
    found = zip(slots, pipeline.execute(), strict=True)
    return [(slot, {name: int(value) for name, value in counted.items()}) for slot, counted in found]


def _take_counts() -> dict[str, int]:
    with _counting:
        taken = dict(_counts)
        _counts.clear()
    return taken


def _leave_counts_to_the_parent() -> None:
    global _counting
    _counting = threading.Lock()  # another thread of the parent may have held it at the moment of the fork
    _counts.clear()


os.register_at_fork(after_in_child=_leave_counts_to_the_parent)


def _record_key(member: str) -> str:
    return key("members", "record", member)


def _index_key() -> str:
    return key("members", "index")


def _history_key() -> str:
    return key("members", "history")


def _totals_key() -> str:
    return key("members", "totals")


def rss_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  (no Path object per beat)
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the highest so far, in bytes on macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
