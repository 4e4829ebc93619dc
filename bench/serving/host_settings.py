"""Django's settings of a site that is reloaded, scaled and killed. See hosts.py."""

import json
import os

SECRET_KEY = "only-for-the-bench-of-scaling-kit-0123456789abcdef"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["scaling_kit", "scaling_kit.cluster"]
MIDDLEWARE = ["scaling_kit.cluster.middleware.HealthMiddleware"]
ROOT_URLCONF = "bench.serving.host_settings"
WSGI_APPLICATION = "release.application"
SCALING_KIT_REDIS_URL = os.environ["SERVING_REDIS_URL"]
SCALING_KIT_CLUSTER_RUN_FOLDER = os.environ["RUN_FOLDER"]
SCALING_KIT_CLUSTER_READY_REQUIRES = ()
SCALING_KIT_CLUSTER_THREADS = 8
globals().update(json.loads(os.environ["SERVING_SETTINGS"]))

urlpatterns: list[object] = []  # /health/ready is answered by the middleware, /pid by the release
