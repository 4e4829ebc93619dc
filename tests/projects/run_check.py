"""`python -m tests.projects.run_check ROOM [--without MODULE ...]`: a project with one room, and `manage.py check`."""

import argparse
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line

from scaling_kit import recipes

REDIS_URL = "redis://127.0.0.1:6379/0"
BASE = ["django.contrib.auth", "django.contrib.contenttypes"]
BESIDE = {"jobs": ["django_rq"], "realtime": ["channels"], "tokens": ["rest_framework"], "media": ["rest_framework"]}
OWN = {
    "cluster": {"MIDDLEWARE": ["scaling_kit.cluster.middleware.HealthMiddleware"]},
    "realtime": {"SCALING_KIT_REALTIME_CAN_JOIN": "tests.projects.run_check.nobody"},
    "media": {"SCALING_KIT_MEDIA_BASE_URL": "https://files.example.com/"},
}
SECRET_KEY = "of-a-small-project-in-the-tests-0123456789abcdef"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("room")
    parser.add_argument("--without", nargs="*", default=[])
    options = parser.parse_args()
    for module in options.without:
        sys.modules[module] = None  # importing it raises ModuleNotFoundError, as if it were not installed
    beside = [app for app in BESIDE.get(options.room, []) if app not in options.without]
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        INSTALLED_APPS=[*BASE, *beside, f"scaling_kit.{options.room}", "scaling_kit"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        CACHES=recipes.caches(REDIS_URL),
        CHANNEL_LAYERS=recipes.channel_layers(REDIS_URL),
        STORAGES=recipes.storages("files", endpoint="http://127.0.0.1:9000", access_key="a", secret_key="b"),
        RQ_QUEUES=recipes.rq_queues(REDIS_URL),
        TASKS=recipes.tasks() if options.room == "jobs" else {},
        SIMPLE_JWT=recipes.simple_jwt(SECRET_KEY),
        **OWN.get(options.room, {}),
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    execute_from_command_line(["manage.py", "check", "--fail-level", "WARNING"])


def nobody(user: object, room: str) -> bool:
    return False


if __name__ == "__main__":
    main()
