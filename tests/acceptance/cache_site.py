"""A site of its own for tests of where the cache works: the library's API, an async view, a job. Also its settings."""

import os
from typing import Any

from scaling_kit import recipes
from tests.settings import *  # noqa: F403
from tests.settings import REDIS_URL

ROOT_URLCONF = __name__
SCALING_KIT_KEY_PREFIX = os.environ.get("SITE_PREFIX", "site")
SCALING_KIT_CACHE_HEADER = True
QUEUE = f"{SCALING_KIT_KEY_PREFIX}-jobs"
RQ_QUEUES = recipes.rq_queues(REDIS_URL, queues=["high", "default", "low", QUEUE])


def __getattr__(name: str) -> Any:
    """What needs the settings above, made on first use: the URLs and the applications."""
    if name == "application":
        from django.core.wsgi import get_wsgi_application

        return get_wsgi_application()
    if name == "asgi_application":
        from django.core.asgi import get_asgi_application

        return get_asgi_application()
    if name == "urlpatterns":
        from django.urls import include, path

        from tests.acceptance import cache_site_views as views

        return [
            path("async/", views.fetch_titles),
            path("async/rename/<str:title>/", views.rename),
            path("", include("tests.cache.views")),
        ]
    raise AttributeError(name)
