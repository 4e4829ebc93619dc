"""Settings of the scheduler processes that tests start."""

import os

from tests.settings import *  # noqa: F403

INSTALLED_APPS = ["scaling_kit", "scaling_kit.scheduler", "tests.scheduler.ticking"]
TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
SCALING_KIT_REDIS_URL = os.environ.get("TICKING_REDIS_URL", REDIS_URL)  # noqa: F405
SCALING_KIT_KEY_PREFIX = os.environ["TICKING_KEY_PREFIX"]
SCALING_KIT_SCHEDULER_LEASE_SECONDS = float(os.environ["TICKING_LEASE_SECONDS"])
