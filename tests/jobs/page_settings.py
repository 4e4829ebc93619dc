"""A small site with pages for the staff: sessions, CSRF, its own database, and a policy that allows no inline code."""

import os
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tests.jobs.settings import *  # noqa: F403
from tests.jobs.settings import MIDDLEWARE as TEST_MIDDLEWARE

ROOT_URLCONF = "tests.jobs.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["PAGE_DATABASE"]}}
MIDDLEWARE = [
    *TEST_MIDDLEWARE,
    "django.middleware.csrf.CsrfViewMiddleware",
    "tests.jobs.page_settings.content_security_policy",
]
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path.startswith(("/jobs/", "/cache/")):
            response.headers["Content-Security-Policy"] = POLICY
        return response

    return respond
