"""A small project that `cluster up` runs: no database, answers with the pid of the process that serves."""

import os

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.projects.site.urls"
WSGI_APPLICATION = "tests.projects.site.applications.wsgi"
ASGI_APPLICATION = "tests.projects.site.applications.asgi"
MIDDLEWARE = ["scaling_kit.cluster.middleware.HealthMiddleware"]
SCALING_KIT_CLUSTER_READY_REQUIRES = ()
SCALING_KIT_CLUSTER_RUN_FOLDER = os.environ["RUN_FOLDER"]
SCALING_KIT_MEMBER_HOST = os.environ.get("MEMBER_HOST", "")
SCALING_KIT_CLUSTER_DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "0"))
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]  # it has no middleware for the admin, and no admin
