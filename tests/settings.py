"""Settings of the kit's own tests: every room installed, real servers on ports picked per run."""

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dj_database_url

from scaling_kit import embedded, recipes


def _picked_once(name: str, pick: Callable[[], object]) -> str:
    """The same in every process that a test run starts; each worker of pytest-xdist is a run of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return os.environ.setdefault(f"SCALING_KIT_TEST_{worker}{name}", str(pick()))


def _port(name: str) -> int:
    return int(_picked_once(f"{name}_PORT", embedded.free_port))


FOLDER = Path(_picked_once("FOLDER", partial(tempfile.mkdtemp, prefix="scaling_kit-")))
FOLDER.chmod(0o755)  # PostgreSQL runs as another user when the tests run as root
VALKEY = embedded.Valkey(folder=FOLDER / "valkey", port=_port("VALKEY"))
S3 = embedded.S3(
    folder=FOLDER / "s3", port=_port("S3"), access_key="test-key", secret_key="test-secret-key", buckets=("test",)
)
POSTGRES = embedded.Postgres(folder=FOLDER / "postgres", port=_port("POSTGRES"), durable=False)

REDIS_URL = os.environ.get("REDIS_URL", VALKEY.url)

SECRET_KEY = "only-for-the-tests-of-scaling-kit-0123456789abcdef"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
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
    "tests.library",
    "tests.cache",
    "tests.scheduler",
]
MIDDLEWARE = [
    "scaling_kit.cluster.middleware.HealthMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE_URL", POSTGRES.url))}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CACHES = recipes.caches(REDIS_URL)
CHANNEL_LAYERS = recipes.channel_layers(REDIS_URL)
STORAGES = recipes.storages("test", endpoint=S3.endpoint, access_key=S3.access_key, secret_key=S3.secret_key)
RQ_QUEUES = recipes.rq_queues(REDIS_URL)
TASKS = recipes.tasks()
SIMPLE_JWT = recipes.simple_jwt(SECRET_KEY)
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SCALING_KIT_REDIS_URL = REDIS_URL
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["scaling_kit.tokens.authentication.StatelessAuthentication"]}
CONSTANCE_BACKEND = "scaling_kit.cluster.live_backend.LiveBackend"
CONSTANCE_CONFIG = {
    "BANNER": ("", "Shown on every page"),
    "UPLOAD_MAX_MB": (20, "The largest file, in megabytes", int),
    "IS_OPEN": (True, "A feature flag"),
    "RATE": (0.5, "A share", float),
    "SALE_BEGINS_AT": (datetime(2030, 1, 1, tzinfo=UTC), "A moment"),
}
SCALING_KIT_MEDIA_BASE_URL = f"{S3.endpoint}/test/"
