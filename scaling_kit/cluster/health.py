"""Is this process well? `live` says that it answers, `ready` whether a balancer should send requests here.

Ready means: what SCALING_KIT_CLUSTER_READY_REQUIRES names is there, and the server is not about to stop. The other
checks are only reported, since a Redis or an S3 that is away is away for every node, and all of them would leave the
balancer at once.
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

from scaling_kit.cluster import drain
from scaling_kit.cluster.conf import settings
from scaling_kit.redis import Purpose, client

logger = logging.getLogger(__name__)


class Probe:
    """A check that may hang, and its last result.

    The check runs in a thread of its own when somebody asks and the last result is too old; one at a time, and those
    who ask wait for it no longer than the budget. A check that passed before fails only after several failures.
    """

    def __init__(self, name: str, check: Callable[[], None], *, once: bool = False) -> None:
        self.name = name
        self.check = check
        self.once = once
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._passes: bool | None = None
        self._failures = 0
        self._started_at = float("-inf")

    def renew(self) -> None:
        """Begin to check again, unless that is under way or was done a moment ago."""
        with self._lock:
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

    def _is_fresh(self) -> bool:
        return bool(self.once and self._passes) or self._age() < settings.READY_MAX_AGE_SECONDS

    def _is_under_way(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _is_late(self) -> bool:
        """Under way for longer than the failures that make a check fail would have taken."""
        return self._is_under_way() and self._age() > settings.READY_BUDGET_SECONDS * settings.READY_FAILURES

    def _age(self) -> float:
        return time.monotonic() - self._started_at

    def _run(self) -> None:
        try:
            self.check()
        except Exception as error:  # a check fails by raising whatever its client raises
            self._failed(error)
        else:
            self._failures = 0
            self._passes = True

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


def readiness(probes: Sequence[Probe] = PROBES) -> tuple[bool, dict[str, Any]]:
    """Whether to send requests here, and why: what `/health/ready` answers."""
    for probe in probes:
        probe.renew()
    required = settings.READY_REQUIRES
    results = {probe.name: probe.passes(wait=probe.name in required) for probe in probes}
    draining = drain.is_on()
    ready = not draining and all(results.get(name, False) for name in required)
    status = "ready" if ready and all(results.values()) else "degraded" if ready else "unready"
    checks = {name: "ok" if passes else "failing" for name, passes in results.items()}
    return ready, {"status": status, "draining": draining, "checks": checks}
