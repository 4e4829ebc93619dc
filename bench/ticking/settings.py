"""Django settings of the candidates, and of the workers where jobs are run."""

import os

from scaling_kit import recipes

SECRET_KEY = "only-for-the-bench-of-scaling-kit-0123456789abcdef"
USE_TZ = True
REDIS_URL = os.environ["TICKING_REDIS_URL"]
QUEUES = ["default", "long"]

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_rq",
    "scaling_kit",
    "scaling_kit.scheduler",
    "scaling_kit.jobs",
    "bench.ticking",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
RQ_QUEUES = recipes.rq_queues(REDIS_URL, queues=QUEUES)
TASKS = recipes.tasks(queues=QUEUES)
SCALING_KIT_REDIS_URL = REDIS_URL
SCALING_KIT_KEY_PREFIX = os.environ.get("TICKING_KEY_PREFIX", "sk")
SCALING_KIT_SCHEDULER_LEASE_SECONDS = float(os.environ.get("TICKING_LEASE_SECONDS", "15"))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {process} {levelname} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
