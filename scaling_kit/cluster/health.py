"""Is this process well? `live` says that it answers, `ready` whether a balancer should send requests here.

Ready means: what SCALING_KIT_CLUSTER_READY_REQUIRES names is there, and the server is neither about to stop nor
drained. The other checks are only reported, since a Redis or an S3 that is away is away for every node, and all of
them would leave the balancer at once. `started` is ready, drained or not: for whoever starts it and waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.files.storage import default_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from scaling_kit.cluster import drain, marks, project_checks
from scaling_kit.cluster.conf import settings
from scaling_kit.cluster.project_checks import StrainedError
from scaling_kit.redis import Purpose, client

logger = logging.getLogger(__name__)

# A check that hangs for so long (a connection whose other end vanished without a word) is left alone, and a new one
# made, as long as there are not too many of those.
ABANDON_SECONDS = 15.0
MOST_ABANDONED = 10


class Probe:
    """A check that may hang, and its last result.

    The check runs in a thread of its own when somebody asks and the last result is too old; one at a time, and those
    who ask wait for it no longer than the budget. A check that passed before fails only after several failures.
    `complaint` is why it failed last, or what it passed with; empty if all is well.
    """

    def __init__(self, name: str, check: Callable[[], None], *, once: bool = False) -> None:
        self.name = name
        self.check = check
        self.once = once
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._passes: bool | None = None
        self._is_strained = False
        self._failures = 0
        self._started_at = float("-inf")
        self._abandoned: list[threading.Thread] = []
        self.complaint = ""

    def renew(self) -> None:
        """Begin to check again, unless that is under way or was done a moment ago."""
        with self._lock:
            self._abandon_what_hangs()
            if not (self._is_under_way() or self._is_fresh()):
                self._thread = threading.Thread(target=self._run, name=f"scaling_kit-probe-{self.name}", daemon=True)
                self._started_at = time.monotonic()
                self._thread.start()

    def passes(self, *, wait: bool = True) -> bool:
        """The result of the check that `renew` began, or the last one if that takes longer than the budget.

        Without `wait` the last one, if there is one.
        """
        if self._thread is not None and (wait or self._passes is None):
            self._thread.join(max(0.0, settings.READY_BUDGET_SECONDS - self._age()))
        return bool(self._passes) and not self._is_late()

    def state(self, *, wait: bool = True) -> str:
        """`ok`, `warning` if it passes with a complaint, or `failing`."""
        if not self.passes(wait=wait):
            return "failing"
        return "warning" if self._is_strained else "ok"

    def describe(self) -> dict[str, Any]:
        """For the staff. Does not wait."""
        late = self._is_late()
        return {
            "state": self.state(wait=False),
            "required": self.name in settings.READY_REQUIRES,
            "complaint": f"no answer for {self._age():.0f} s" if late else self.complaint,
            "begun_seconds_ago": round(self._age(), 1),
        }

    def _is_fresh(self) -> bool:
        return bool(self.once and self._passes) or self._age() < settings.READY_MAX_AGE_SECONDS

    def _is_under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _is_late(self) -> bool:
        """Under way for longer than the failures that make a check fail would have taken."""
        return self._is_under_way() and self._age() > settings.READY_BUDGET_SECONDS * settings.READY_FAILURES

    def _abandon_what_hangs(self) -> None:
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        hangs = self._is_under_way() and self._age() > ABANDON_SECONDS
        if hangs and self._thread and len(self._abandoned) < MOST_ABANDONED:
            self._abandoned.append(self._thread)
            self._thread, self._passes = None, False

    def _age(self) -> float:
        return time.monotonic() - self._started_at

    def _run(self) -> None:
        try:
            self.check()
        except Exception as error:  # a check fails by raising whatever its client raises
            outcome: Exception | None = error
        else:
            outcome = None
        with self._lock:
            if self._thread is threading.current_thread():  # or it was abandoned
                self._take(outcome)

    def _take(self, error: Exception | None) -> None:
        self.complaint = f"{type(error).__name__}: {error}" if error else ""
        self._is_strained = isinstance(error, StrainedError)
        if error is None or self._is_strained:
            self._failures = 0
            self._passes = True
        else:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._passes is None or self._failures >= settings.READY_FAILURES:
            if self._passes is not False:
                logger.warning("health check=%s failed error=%r", self.name, error)
            self._passes = False


def check_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()  # this thread's own


def check_migrations() -> None:
    """Those of the code that runs here; newer ones in the database are a release under way."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            raise LookupError(f"{len(missing)} migrations are not applied, the first is {missing[0][0]}")
    finally:
        connection.close()


def check_redis() -> None:
    client(Purpose.REQUEST).ping()


def check_storage() -> None:
    default_storage.exists("scaling_kit-health")


PROBES = (
    Probe("database", check_database),
    Probe("migrations", check_migrations, once=True),
    Probe("redis", check_redis),
    Probe("storage", check_storage),
)
_MARKS = Probe("drain", marks.look)
_of_the_project: dict[str, Probe] = {}


def probes() -> tuple[Probe, ...]:
    """Ours, and those of SCALING_KIT_CLUSTER_CHECKS."""
    for name in settings.CHECKS:
        if name not in _of_the_project:
            _of_the_project[name] = Probe(name, project_checks.Check(name))
    return (*PROBES, *(_of_the_project[name] for name in settings.CHECKS))


def readiness(probes: Sequence[Probe], *, drained_counts: bool = True) -> tuple[bool, dict[str, Any]]:
    """Whether to send requests here, and why: what `/health/ready` answers."""
    for probe in (_MARKS, *probes):
        probe.renew()
    required = settings.READY_REQUIRES
    states = {probe.name: probe.state(wait=probe.name in required) for probe in probes}
    _MARKS.passes()
    draining = drain.is_on() or marks.is_on()
    ready = not (draining and drained_counts) and all(states.get(name, "failing") != "failing" for name in required)
    status = "unready" if not ready else "ready" if set(states.values()) <= {"ok"} else "degraded"
    return ready, {"status": status, "draining": draining, "checks": states}
