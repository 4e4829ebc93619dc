"""The photo wall: one real application that uses every room of the kit.

The only place that reads the environment. `python -m demo_project` sets all of it for the servers it starts;
in a deployment set it yourself:

    SECRET_KEY, DATABASE_URL, REDIS_URL, S3_BUCKET, S3_ENDPOINT_URL, S3_ACCESS_KEY, S3_SECRET_KEY, ALLOWED_HOSTS
"""

import os
from pathlib import Path

import dj_database_url

from scaling_kit import recipes

BASE_DIR = Path(__file__).resolve().parent.parent
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-the-demo-makes-its-own-before-it-starts")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if origin]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_rq",
    "channels",
    "constance",
    "scaling_kit",
    "scaling_kit.tokens",
    "scaling_kit.media",
    "scaling_kit.cache",
    "scaling_kit.realtime",
    "scaling_kit.jobs",
    "scaling_kit.scheduler",
    "scaling_kit.cluster",
    "demo_project.wall",
]
MIDDLEWARE = [
    "scaling_kit.cluster.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "demo_project.urls"
WSGI_APPLICATION = "demo_project.wsgi.application"
ASGI_APPLICATION = "demo_project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "constance.context_processors.config",
            ]
        },
    }
]

DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}"),
        conn_max_age=60,
        conn_health_checks=True,
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What the rooms need, from one URL each.
CACHES = recipes.caches(REDIS_URL, key_prefix="wall")
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
CHANNEL_LAYERS = recipes.channel_layers(REDIS_URL)
RQ_QUEUES = recipes.rq_queues(REDIS_URL)
TASKS = recipes.tasks()
STORAGES = recipes.storages(
    os.environ.get("S3_BUCKET", "photos"),
    endpoint=os.environ.get("S3_ENDPOINT_URL"),
    public_endpoint=os.environ.get("S3_PUBLIC_ENDPOINT"),
    access_key=os.environ.get("S3_ACCESS_KEY"),
    secret_key=os.environ.get("S3_SECRET_KEY"),
    static="whitenoise.storage.CompressedStaticFilesStorage",
)
SIMPLE_JWT = recipes.simple_jwt(SECRET_KEY, issuer="photo-wall", audience="photo-wall")

SCALING_KIT_REDIS_URL = REDIS_URL
SCALING_KIT_KEY_PREFIX = "wall"
SCALING_KIT_RELEASE = os.environ.get("RELEASE", "demo")
SCALING_KIT_CLUSTER_RUN_FOLDER = os.environ.get("DEMO_RUN_FOLDER", str(BASE_DIR / ".run"))
SCALING_KIT_MEDIA_BASE_URL = os.environ.get("MEDIA_BASE_URL", "https://photos.example.com/")
SCALING_KIT_MEDIA_ALLOWED_TYPES = ["image/jpeg", "image/png", "image/webp"]
SCALING_KIT_MEDIA_MAX_BYTES = 20 * 1024 * 1024
SCALING_KIT_CACHE_HEADER = True
SCALING_KIT_REALTIME_CAN_JOIN = "demo_project.wall.rooms.can_join"
SCALING_KIT_REALTIME_ORIGINS = CSRF_TRUSTED_ORIGINS
SCALING_KIT_CLUSTER_SERVED_BY = True
# Whether the staff may kill processes on the cluster page, to see who takes their place.
DEMO_KILL = os.environ.get("DEMO_KILL") == "1"
SCALING_KIT_SCHEDULER_LEASE_SECONDS = float(os.environ.get("SCHEDULER_LEASE_SECONDS", "15"))

# What changes while it runs: in the admin, by PATCH cluster/settings/, or `manage.py cluster settings NAME VALUE`.
CONSTANCE_BACKEND = "scaling_kit.cluster.live_backend.LiveBackend"
CONSTANCE_ADDITIONAL_FIELDS = {"megabytes": ["django.forms.IntegerField", {"min_value": 1, "max_value": 20}]}
CONSTANCE_CONFIG = {
    "BANNER": ("", "Shown on every page, if there is one"),
    "UPLOAD_MAX_MB": (20, "The largest photo, in MB, at most 20", "megabytes"),
    "COMMENTS_OPEN": (True, "Visitors may comment on photos"),
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["scaling_kit.tokens.authentication.StatelessAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "NUM_PROXIES": 1,  # nginx; whose address the login throttle counts
    "EXCEPTION_HANDLER": "demo_project.wall.errors.exception_handler",
}

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("STATIC_ROOT")
WHITENOISE_USE_FINDERS = STATIC_ROOT is None  # without `collectstatic`, serve them from the apps' folders
USE_TZ = True
TIME_ZONE = "UTC"
# Where browsers find the websocket processes: nothing while a proxy joins them to this site under /ws/.
WEBSOCKET_URL = os.environ.get("WEBSOCKET_URL", "")
PHOTO_OF_THE_MINUTE_SECONDS = float(os.environ.get("PHOTO_OF_THE_MINUTE_SECONDS", "60"))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname:<7} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {"botocore": {"level": "WARNING"}, "PIL": {"level": "WARNING"}, "urllib3": {"level": "WARNING"}},
}
