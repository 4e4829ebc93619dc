"""Settings of the scheduler processes that tests start: the room alone."""

import os

import dj_database_url

SECRET_KEY = "only-for-the-tests-of-scaling-kit-0123456789abcdef"
USE_TZ = True
INSTALLED_APPS = ["scaling_kit", "scaling_kit.scheduler", "tests.scheduler", "tests.scheduler.ticking"]
SCALING_KIT_REDIS_URL = os.environ["TICKING_REDIS_URL"]
SCALING_KIT_KEY_PREFIX = os.environ["TICKING_KEY_PREFIX"]
SCALING_KIT_SCHEDULER_LEASE_SECONDS = float(os.environ["TICKING_LEASE_SECONDS"])
if "TICKING_DATABASE_URL" in os.environ:
    DATABASES = {"default": dj_database_url.parse(os.environ["TICKING_DATABASE_URL"])}
SCALING_KIT_MEMBER_TTL_SECONDS = float(os.environ.get("TICKING_MEMBER_TTL_SECONDS", "15"))
