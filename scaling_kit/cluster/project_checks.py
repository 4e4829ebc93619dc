"""Checks of SCALING_KIT_CLUSTER_CHECKS: functions of the project, and those that are written for django-health-check.

    SCALING_KIT_CLUSTER_CHECKS = {
        "search": "project.search.ping",  # a function that raises
        "mail": "health_check.checks.Mail",
        "disk": ("health_check.contrib.psutil.Disk", {"max_disk_usage_percent": 80.0}),
    }

They run where ours do, in the background, and are judged by the same patience. django-health-check needs no entry in
INSTALLED_APPS for this.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connections
from django.utils.module_loading import import_string

from scaling_kit.cluster.conf import settings


class StrainedError(Exception):
    """What is checked works, but not for long. A check that raises it passes, and is shown as `warning`."""


class Check:
    """Runs what the setting names, which is looked up when it first runs. Raises what that raises."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._run: Callable[[], object] | None = None

    def __call__(self) -> None:
        self._run = self._run or self.load()
        try:
            self._run()
        finally:
            connections.close_all()  # this thread's own

    def load(self) -> Callable[[], object]:
        entry = settings.CHECKS[self.name]
        path, arguments = (entry, {}) if isinstance(entry, str) else entry
        found = import_string(path)
        if not callable(found):
            raise TypeError(f"{path} is {found!r}, neither a function nor a check")
        if isinstance(found, type):
            return partial(_run_check, found(**arguments))
        return partial(found, **arguments)


def _run_check(check: Any) -> None:
    """Of django-health-check: `run` is a function or a coroutine, and a warning of its own kind is not a failure."""
    from health_check.exceptions import ServiceWarning

    try:
        if inspect.iscoroutinefunction(check.run):
            asyncio.run(_within(check.run(), check.timeout.total_seconds()))
        else:
            check.run()
    except ServiceWarning as warning:
        raise StrainedError(warning.message) from warning


async def _within(running: Any, seconds: float) -> None:
    await asyncio.wait_for(running, seconds)
