"""Django's settings of the site that is served. Where its servers are comes in the environment, see field.py."""

import os
from datetime import timedelta

from scaling_kit import recipes

SECRET_KEY = "only-for-the-bench-of-scaling-kit-0123456789abcdef"
SIGNING_KEY = "only-for-the-bench-of-scaling-kit-abcdef0123456789"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "bench.serving.site"
MIDDLEWARE = ["scaling_kit.cluster.middleware.HealthMiddleware"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "scaling_kit",
    "scaling_kit.tokens",
    "scaling_kit.cache",
    "scaling_kit.cluster",
    "bench.caching",  # the articles
]
# Read once, when the feed is first asked for.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SERVING_DATABASE"]}}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["scaling_kit.tokens.authentication.StatelessAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SIMPLE_JWT = recipes.simple_jwt(SIGNING_KEY, access=timedelta(hours=12))
SCALING_KIT_REDIS_URL = os.environ["SERVING_REDIS_URL"]
SCALING_KIT_CACHE_NEARBY_BYTES = int(os.environ.get("SERVING_NEARBY_BYTES", "0"))
