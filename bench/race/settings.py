"""Django settings of the kit's workers: those of the others, and the kit."""

from bench.race.stock import *  # noqa: F403
from bench.race.stock import INSTALLED_APPS, REDIS_URL
from scaling_kit import recipes

INSTALLED_APPS = [*INSTALLED_APPS, "scaling_kit", "scaling_kit.jobs", "bench.race"]
SCALING_KIT_REDIS_URL = REDIS_URL
RQ_QUEUES = recipes.rq_queues(REDIS_URL, queues=["default"])
TASKS = recipes.tasks(queues=["default"])
