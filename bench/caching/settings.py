"""Django settings of a contestant. What differs between them comes in the environment, see field.py."""

import json
import os

import dj_database_url

from scaling_kit import recipes

REDIS_URL = os.environ["CACHING_REDIS_URL"]
_given = json.loads(os.environ["CACHING_SETTINGS"])

SECRET_KEY = "only-for-the-bench-of-scaling-kit-0123456789abcdef"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "bench.caching.urls"
MIDDLEWARE: list[str] = []
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    *_given.pop("APPS"),
    "bench.caching",
]
# Kept open as under any load; the second alias stands for a replica without lag.
_database = dj_database_url.parse(os.environ["CACHING_DATABASE_URL"], conn_max_age=600)
DATABASES = {"default": _database, "replica": _database.copy()}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}
CACHES = recipes.caches(REDIS_URL)
if "django_cachex.orm" in INSTALLED_APPS:
    CACHES = {"default": {"BACKEND": "django_cachex.cache.RedisCache", "LOCATION": REDIS_URL}}
CACHEOPS_REDIS = SCALING_KIT_REDIS_URL = REDIS_URL
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "ERROR"},
}
globals().update(_given)
