"""Django settings of the contestants that are not the kit: Django and django-rq as they come."""

import os

from bench.race import work  # noqa: F401  (loaded before a worker forks, as a project's own modules are)

REDIS_URL = os.environ["BENCH_REDIS_URL"]

SECRET_KEY = "only-for-the-bench-of-scaling-kit-0123456789abcdef"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_rq"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
RQ_QUEUES = {"default": {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"}}

# A line per job costs each of them something; none writes one here.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
