"""For the processes that the tests start: keys and queues of one test, named in the environment."""

import os

from scaling_kit import recipes
from tests.settings import *  # noqa: F403
from tests.settings import REDIS_URL

SCALING_KIT_KEY_PREFIX = os.environ["TEST_KEY_PREFIX"]
QUEUES = [f"{SCALING_KIT_KEY_PREFIX}-{name}" for name in ("high", "default", "low")]
RQ_QUEUES = recipes.rq_queues(REDIS_URL, queues=["default", *QUEUES])  # tasks are declared for "default"
TASKS = recipes.tasks(queues=["default", *QUEUES])
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
SCALING_KIT_JOBS_WORKER_TTL_SECONDS = float(os.environ.get("TEST_WORKER_TTL", "15"))
SCALING_KIT_JOBS_TIMEOUT_MARGIN_SECONDS = 1.0
SCALING_KIT_JOBS_LEASE_SECONDS = 2.0
SCALING_KIT_JOBS_CRASH_LIMIT = 3
