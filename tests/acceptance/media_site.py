"""A site of its own for the media tests: the tests' settings, uploads that write a row, log-in by HTTP Basic."""

import os
from typing import Any

from tests.settings import *  # noqa: F403

ROOT_URLCONF = __name__
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"]}
STORAGES["default"]["OPTIONS"]["endpoint_url"] = os.environ["SITE_S3_ENDPOINT"]  # noqa: F405


def __getattr__(name: str) -> Any:
    """What needs the settings above, made on first use: the URLs and the WSGI application."""
    if name == "application":
        from django.core.wsgi import get_wsgi_application

        return get_wsgi_application()
    if name == "urlpatterns":
        from django.urls import include, path
        from rest_framework.routers import SimpleRouter

        from tests.media.test_views import AuthorUploadViewSet

        router = SimpleRouter()
        router.register("uploads", AuthorUploadViewSet, basename="upload")
        return [path("", include(router.urls))]
    raise AttributeError(name)
